// Model::plan: everything a step's batch is checked for, once, so that the layers only compute.
#include <algorithm>

#include "formats/checkpoint.h"
#include "model/model.h"
#include "model/weights.h"
#include "model/workspace.h"

namespace gem8 {
namespace {

bool is(const std::optional<int>& id, TokenId token) {
  return id && *id == value_of(token);
}

bool is_vision(const SpecialTokenIds& ids, TokenId token) {
  return is(ids.image, token) || is(ids.video, token);
}

bool is_placeholder(const SpecialTokenIds& ids, TokenId token) {
  return is_vision(ids, token) || is(ids.audio, token);
}

/// Appends the chunk's rows to step.soft_rows and marks them covered.
Status cover(const SequenceChunk& chunk, const ModelConfig& config, std::int64_t first_row,
             DType dtype, Step& step) {
  const auto n_tokens = static_cast<std::int64_t>(chunk.tokens.size());
  for (const SoftTokens& soft : chunk.soft) {
    if (soft.offset < 0 || soft.rows.rows < 1 || soft.rows.rows > n_tokens - soft.offset) {
      return fail(Code::kInvalidArgument, "{} soft tokens at {} of a chunk of {} tokens",
                  soft.rows.rows, soft.offset, n_tokens);
    }
    if (soft.rows.cols != config.text.hidden ||
        (soft.rows.dtype != DType::kF32 && soft.rows.dtype != dtype)) {
      return fail(Code::kInvalidArgument, "soft tokens {} wide of dtype {}, want {} of F32 or {}",
                  soft.rows.cols, dtype_name(soft.rows.dtype), config.text.hidden,
                  dtype_name(dtype));
    }
    for (std::int64_t i = 0; i < soft.rows.rows; ++i) {
      const TokenId token = chunk.tokens[static_cast<std::size_t>(soft.offset + i)];
      if (config.text_only_class || !is_placeholder(config.tokens, token)) {
        return fail(Code::kInvalidArgument,
                    "a soft token at position {}, where token {} is no placeholder",
                    chunk.first_position + soft.offset + i, value_of(token));
      }
      auto& covered = step.covered[static_cast<std::size_t>(first_row + soft.offset + i)];
      if (covered != 0) {
        return fail(Code::kInvalidArgument, "two soft tokens at position {}",
                    chunk.first_position + soft.offset + i);
      }
      covered = 1;
      step.soft_rows.push_back(static_cast<std::int32_t>(first_row + soft.offset + i));
    }
  }
  return {};
}

/// A chunk by itself and against its sequence in the cache.
Status check(const Batch& batch, std::size_t s, const KvCache& cache, const TextConfig& config) {
  const SequenceChunk& chunk = batch.chunks[s];
  const auto n_tokens = static_cast<std::int64_t>(chunk.tokens.size());
  if (n_tokens == 0) return fail(Code::kInvalidArgument, "chunk {} of the step has no token", s);
  if (!cache.is_open(chunk.seq)) {
    return fail(Code::kInvalidArgument, "chunk {} names a sequence that is not open", s);
  }
  if (chunk.first_position != cache.length(chunk.seq)) {
    return fail(Code::kInvalidArgument, "a chunk from position {}, its sequence has {} tokens",
                chunk.first_position, cache.length(chunk.seq));
  }
  if (n_tokens > config.max_position_embeddings - chunk.first_position) {
    return fail(Code::kInvalidArgument, "{} tokens from position {}, the model has {} positions",
                n_tokens, chunk.first_position, config.max_position_embeddings);
  }
  for (std::size_t other = 0; other < s; ++other) {
    if (batch.chunks[other].seq == chunk.seq) {
      return fail(Code::kInvalidArgument, "chunks {} and {} are of the same sequence", other, s);
    }
  }
  return {};
}

/// Appends the chunk's tokens, positions, image blocks and rows that want logits.
Status read_tokens(const SequenceChunk& chunk, std::size_t s, const KvCache& cache,
                   const ModelConfig& config, Step& step) {
  const bool bidirectional = config.text.bidirectional == BidirectionalAttention::kVision;
  const auto n_tokens = static_cast<std::int64_t>(chunk.tokens.size());
  const auto first_row = static_cast<std::int64_t>(step.lookup.size());
  std::int64_t block = 0;  // tokens of the image block that is open
  for (std::int64_t i = 0; i < n_tokens; ++i) {
    const TokenId token = chunk.tokens[static_cast<std::size_t>(i)];
    if (value_of(token) < 0 || value_of(token) >= config.text.vocab) {
      return fail(Code::kInvalidArgument, "token {} at position {}, the vocabulary has {}",
                  value_of(token), chunk.first_position + i, config.text.vocab);
    }
    const bool placeholder = !config.text_only_class && is_placeholder(config.tokens, token);
    step.lookup.push_back(placeholder ? TokenId{config.text.pad_token_id} : token);
    step.positions.push_back(static_cast<std::int32_t>(chunk.first_position + i));
    const bool in_block = bidirectional && is_vision(config.tokens, token) &&
                          step.covered[static_cast<std::size_t>(first_row + i)] != 0;
    if (in_block && i == 0 && cache.has_open_block(chunk.seq)) {
      return fail(Code::kInvalidArgument, "position {} continues an image that another chunk began",
                  chunk.first_position);
    }
    if (in_block) {
      if (block++ == 0) {
        step.blocks.push_back(
            {.sequence = static_cast<std::int64_t>(s), .first_position = chunk.first_position + i});
      }
      step.blocks.back().n_tokens = block;
    } else {
      block = 0;
    }
    if (chunk.logits == Logits::kAll || (chunk.logits == Logits::kLast && i + 1 == n_tokens)) {
      step.logit_rows.push_back(static_cast<std::int32_t>(first_row + i));
    }
  }
  step.ends_in_block.push_back(block > 0 ? 1 : 0);
  return {};
}

/// All pages or none: a step that is refused has changed nothing.
Status check_pages(const Batch& batch, const KvCache& cache) {
  for (const CacheGroup group : {CacheGroup::kSliding, CacheGroup::kFull}) {
    std::int64_t needed = 0;
    for (const SequenceChunk& chunk : batch.chunks) {
      needed +=
          cache.pages_needed(chunk.seq, static_cast<std::int64_t>(chunk.tokens.size()), group);
    }
    if (needed > cache.free_pages(group)) {
      return fail(Code::kExhausted, "{} {} cache pages needed, {} of {} are free", needed,
                  group == CacheGroup::kFull ? "full" : "sliding", cache.free_pages(group),
                  cache.total_pages(group));
    }
  }
  return {};
}

}  // namespace

void Step::reserve(std::int64_t max_tokens) {
  const auto n = static_cast<std::size_t>(max_tokens);
  lookup.reserve(n);
  positions.reserve(n);
  sliding.reserve(n);
  full.reserve(n);
  blocks.reserve(n);
  soft_rows.reserve(n);
  covered.reserve(n);
  ends_in_block.reserve(n);
  logit_rows.reserve(n);
}

void Step::clear() {
  lookup.clear();
  positions.clear();
  sliding.clear();
  full.clear();
  blocks.clear();
  soft_rows.clear();
  covered.clear();
  ends_in_block.clear();
  logit_rows.clear();
}

Status Model::plan(const Batch& batch, KvCache& cache, Step& step) const {
  const ModelConfig& config = this->config();
  step.tokens = batch.tokens();
  if (step.tokens < 1 || step.tokens > max_batch_tokens_) {
    return fail(Code::kInvalidArgument, "a step of {} tokens, want 1 to {}", step.tokens,
                max_batch_tokens_);
  }
  step.clear();
  step.cache = &cache;
  step.covered.assign(static_cast<std::size_t>(step.tokens), 0);

  for (std::size_t s = 0; s < batch.chunks.size(); ++s) {
    const SequenceChunk& chunk = batch.chunks[s];
    GEM8_RETURN_IF_ERROR(check(batch, s, cache, config.text));
    const auto first_row = static_cast<std::int64_t>(step.lookup.size());
    GEM8_RETURN_IF_ERROR(cover(chunk, config, first_row, ops_->activation_dtype(), step));
    GEM8_RETURN_IF_ERROR(read_tokens(chunk, s, cache, config, step));
  }
  GEM8_RETURN_IF_ERROR(check_pages(batch, cache));

  std::int64_t row = 0;
  for (const SequenceChunk& chunk : batch.chunks) {
    const auto n_tokens = static_cast<std::int64_t>(chunk.tokens.size());
    GEM8_RETURN_IF_ERROR(cache.reserve(chunk.seq, n_tokens));
    SequenceRows rows{.first_row = row, .n_rows = n_tokens, .first_position = chunk.first_position};
    rows.pages = cache.pages(chunk.seq, CacheGroup::kSliding);
    step.sliding.push_back(rows);
    rows.pages = cache.pages(chunk.seq, CacheGroup::kFull);
    step.full.push_back(rows);
    row += n_tokens;
  }
  return {};
}

}  // namespace gem8
