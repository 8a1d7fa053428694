#pragma once

#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "foundation/result.h"
#include "foundation/token_id.h"
#include "server/openai/generation.h"

namespace gem8::openai {

/// Text to be tokenized, or ids to be used as they are.
using Prompt = std::variant<std::string, std::vector<TokenId>>;

/// Most answers of a request, prompts times n.
inline constexpr std::size_t kMaxAnswers = 1024;
/// Output tokens when the request does not say.
inline constexpr std::int64_t kDefaultCompletionTokens = 16;

/// A body of POST /v1/completions, checked.
struct CompletionRequest {
  std::string model;
  std::vector<Prompt> prompts;  ///< at least one
  bool echo = false;
  bool add_special_tokens = true;
  std::string request_id;
  Generation generation;  ///< max_tokens is set; 0 only with echo
};

/// Errors as parse_generation(); kCorrupt for text that is no JSON object.
Result<CompletionRequest> parse_completion_request(std::string_view body,
                                                   const GenerationDefaults& defaults);

}  // namespace gem8::openai
