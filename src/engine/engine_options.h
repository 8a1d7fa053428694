#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "foundation/token_id.h"

namespace gem8 {

/// What the model's files say about ending an answer.
struct EndTokens {
  TokenId primary{1};             ///< the end token whose Finish names no stop_token
  std::vector<TokenId> eos;       ///< all of them, with or without the primary one
  std::vector<TokenId> suppress;  ///< never chosen
  std::vector<TokenId>
      placeholders;  ///< image, video and audio tokens: runs of them in a prompt are not split
};

struct EngineOptions {
  std::int64_t max_model_len = 4096;  ///< prompt and output together
  std::int64_t max_num_seqs = 256;    ///< in a batch
  std::int64_t max_num_batched_tokens =
      2048;  ///< in a step; at least max_num_seqs, at most the runner's max_batch_tokens
  std::int64_t max_queued =
      0;  ///< requests in flight, running and waiting, beyond which submit() refuses; 0: no limit
  std::size_t channel_capacity = 256;  ///< events a slow reader may lag behind
  std::size_t image_cache_bytes = std::size_t{256}
                                  << 20;  ///< for soft tokens of images seen before
  /// Images of a step share a pass of the tower up to so many patches; a larger one goes alone. Two
  /// of 280 soft tokens: bounds the memory of a pass, and more rows make no linear faster.
  std::int64_t max_pass_patches = 5040;
  EndTokens end_tokens;
};

}  // namespace gem8
