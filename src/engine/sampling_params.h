#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "foundation/result.h"
#include "foundation/token_id.h"

namespace gem8 {

struct LogitBias {
  TokenId token{};
  float bias = 0.0f;  ///< added to the logit, -100 to 100
};

/// How the next token is chosen. The neutral values below change nothing.
struct SamplingParams {
  float temperature = 1.0f;         ///< 0 to 2; below 1e-5 greedy, otherwise at least 0.01
  float top_p = 1.0f;               ///< (0, 1]
  float min_p = 0.0f;               ///< 0 to 1
  std::int64_t top_k = 0;           ///< 0 and -1: off
  float presence_penalty = 0.0f;    ///< -2 to 2
  float frequency_penalty = 0.0f;   ///< -2 to 2
  float repetition_penalty = 1.0f;  ///< at least kMinRepetitionPenalty
  std::uint64_t seed = 0;
  std::vector<LogitBias> logit_bias;
  std::vector<TokenId> allowed_token_ids;  ///< empty: all
  /// Log-probabilities of the sampled token and of this many best ones. Absent: none, and nothing
  /// is computed.
  std::optional<std::int32_t> n_logprobs;

  bool greedy() const { return temperature < 1e-5f; }
  bool has_penalties() const {
    return presence_penalty != 0.0f || frequency_penalty != 0.0f || repetition_penalty != 1.0f;
  }
};

/// A smaller one would make infinities of logits, and then there is no best token. 1e6 is beyond
/// every model's logits, 100 the smallest temperature's inverse, 3e38 what a float holds.
inline constexpr float kMinRepetitionPenalty = 1e-30f;
/// The largest n_logprobs.
inline constexpr std::int32_t kMaxLogprobs = 20;

/// Refuses what is out of range with kInvalidArgument; the error's context is the member's name.
Status check_sampling_params(const SamplingParams& params, std::int64_t vocab);

}  // namespace gem8
