#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "foundation/result.h"
#include "foundation/token_id.h"
#include "model/model.h"
#include "quantize/eval/eval_data.h"
#include "quantize/token_sample.h"
#include "text/tokenizer/tokenizer.h"

namespace gem8::eval {

struct GreedyOptions {
  std::vector<TokenId> stop;      ///< end of an answer
  std::vector<TokenId> suppress;  ///< never chosen
  std::int64_t max_new_tokens = 256;
};

/// The likeliest token after each prompt, again and again, several prompts at a time; what comes
/// before the stop token. Errors: those of Model::forward() and encode_image(), kExhausted
/// (memory).
Result<std::vector<std::vector<TokenId>>> generate_greedily(
    SeeingModel model, std::span<const TokenSample* const> prompts, const GreedyOptions& options);

/// What an answer is worth.
struct Score {
  bool right = false;
  std::size_t right_parts = 0;
  std::size_t parts = 0;
};

/// Compares what a model wrote with the reference answer. Right is the same text but for white
/// space around it, or the same calls in the same order with equal arguments: values of equal type,
/// members in any order. Parts are the single calls, in their places; else the attributes where the
/// sample has them, each as often as the text has the word (without regard to case or a plural s);
/// else the text as a whole.
Score score(const Sample& sample, std::span<const TokenId> written, const Tokenizer& tokenizer);

}  // namespace gem8::eval
