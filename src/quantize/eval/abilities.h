#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "foundation/result.h"
#include "foundation/token_id.h"
#include "model/model.h"
#include "quantize/eval/eval_data.h"
#include "text/tokenizer/tokenizer.h"

namespace gem8::eval {

struct GreedyOptions {
  std::vector<TokenId> stop;      ///< end of an answer
  std::vector<TokenId> suppress;  ///< never chosen
  std::int64_t max_new_tokens = 256;
};

/// The likeliest token after each prompt, again and again, several prompts at a time; what comes
/// before the stop token. Errors: those of Model::forward(), kExhausted (memory).
Result<std::vector<std::vector<TokenId>>> generate_greedily(
    Model& model, std::span<const std::span<const TokenId>> prompts, const GreedyOptions& options);

/// Whether what a model wrote is the reference answer: the same text but for white space around it,
/// or the same calls in the same order with equal arguments (numbers by value, members in any
/// order).
bool is_right(const Sample& sample, std::span<const TokenId> written, const Tokenizer& tokenizer);

}  // namespace gem8::eval
