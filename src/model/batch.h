#pragma once

#include <cstdint>
#include <span>

#include "foundation/token_id.h"
#include "kernels/ops.h"
#include "model/kv_cache.h"

namespace gem8 {

/// Which positions of a chunk want logits.
enum class Logits { kNone, kLast, kAll };

/// Rows that replace the placeholder tokens at consecutive positions of a chunk: what a vision or
/// audio tower made of its input. `rows` [n, hidden], F32 or the activation dtype, on the ops'
/// device; not multiplied by sqrt(hidden).
struct SoftTokens {
  std::int64_t offset = 0;  ///< of the first replaced token in the chunk
  ConstMat rows;
};

/// Consecutive tokens of one sequence: a prefill, a piece of one, or a decode step of a single
/// token.
///
/// Where the configuration asks for it, every maximal run of image or video tokens that have soft
/// rows is a block: on sliding layers its tokens see each other in both directions. A block lies in
/// one chunk. Placeholder ids without soft rows (a model may generate one) are looked up as padding
/// and stay causal.
struct SequenceChunk {
  CacheSeq seq{};
  std::span<const TokenId> tokens;  ///< host, not empty
  std::int64_t first_position =
      0;  ///< position of tokens[0]; equals the cache's length of the sequence
  std::span<const SoftTokens> soft;
  Logits logits = Logits::kLast;
};

/// One step: prefill chunks and decode tokens of any number of sequences, each at most once. Logit
/// rows come in the order of the chunks, within a chunk in the order of its tokens.
struct Batch {
  std::span<const SequenceChunk> chunks;

  std::int64_t tokens() const {
    std::int64_t n = 0;
    for (const SequenceChunk& chunk : chunks) n += static_cast<std::int64_t>(chunk.tokens.size());
    return n;
  }
  std::int64_t logit_rows() const {
    std::int64_t n = 0;
    for (const SequenceChunk& chunk : chunks) {
      if (chunk.logits == Logits::kLast) n += 1;
      if (chunk.logits == Logits::kAll) n += static_cast<std::int64_t>(chunk.tokens.size());
    }
    return n;
  }
};

}  // namespace gem8
