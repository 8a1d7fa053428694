#include "engine/sampling_params.h"

#include <cmath>

namespace gem8 {
namespace {

/// Written so that NaN is out of every range.
Status check_range(const char* name, double value, double low, bool low_allowed, double high) {
  if ((low_allowed ? value >= low : value > low) && value <= high) return {};
  return std::unexpected(Error{Code::kInvalidArgument,
                               fmt::format("{} must be in {}{}, {}], found {}", name,
                                           low_allowed ? '[' : '(', low, high, value),
                               name});
}

Status check_token(const char* name, TokenId token, std::int64_t vocab) {
  if (value_of(token) >= 0 && value_of(token) < vocab) return {};
  return std::unexpected(Error{
      Code::kInvalidArgument,
      fmt::format("{}: token id {} is outside the vocabulary of {}", name, value_of(token), vocab),
      name});
}

}  // namespace

Status check_sampling_params(const SamplingParams& params, std::int64_t vocab) {
  GEM8_RETURN_IF_ERROR(check_range("temperature", params.temperature, 0.0, true, 2.0));
  GEM8_RETURN_IF_ERROR(check_range("top_p", params.top_p, 0.0, false, 1.0));
  GEM8_RETURN_IF_ERROR(check_range("min_p", params.min_p, 0.0, true, 1.0));
  GEM8_RETURN_IF_ERROR(check_range("presence_penalty", params.presence_penalty, -2.0, true, 2.0));
  GEM8_RETURN_IF_ERROR(check_range("frequency_penalty", params.frequency_penalty, -2.0, true, 2.0));
  if (!(params.repetition_penalty >= kMinRepetitionPenalty &&
        std::isfinite(params.repetition_penalty))) {
    return std::unexpected(Error{
        Code::kInvalidArgument,
        fmt::format("repetition_penalty must be greater than 0, and no less than {}, found {}",
                    kMinRepetitionPenalty, params.repetition_penalty),
        "repetition_penalty"});
  }
  if (params.top_k < -1) {
    return std::unexpected(
        Error{Code::kInvalidArgument,
              fmt::format("top_k must be -1, 0 (off) or more, found {}", params.top_k), "top_k"});
  }
  if (params.n_logprobs && (*params.n_logprobs < 0 || *params.n_logprobs > kMaxLogprobs)) {
    return std::unexpected(
        Error{Code::kInvalidArgument,
              fmt::format("Requested sample logprobs of {}, which is greater than max allowed: {}",
                          *params.n_logprobs, kMaxLogprobs),
              "top_logprobs"});
  }
  for (const LogitBias& bias : params.logit_bias) {
    GEM8_RETURN_IF_ERROR(check_token("logit_bias", bias.token, vocab));
    if (!std::isfinite(bias.bias)) {
      return std::unexpected(
          Error{Code::kInvalidArgument,
                fmt::format("logit_bias of token {} is not a finite number", value_of(bias.token)),
                "logit_bias"});
    }
  }
  for (const TokenId token : params.allowed_token_ids)
    GEM8_RETURN_IF_ERROR(check_token("allowed_token_ids", token, vocab));
  return {};
}

}  // namespace gem8
