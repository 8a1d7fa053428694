#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "formats/checkpoint.h"
#include "foundation/json/json.h"
#include "foundation/result.h"
#include "foundation/token_id.h"
#include "text/chat/chat_template.h"
#include "text/tokenizer/tokenizer.h"

namespace gem8::eval {

enum class Kind { kText, kTools, kImages };
std::string_view kind_name(Kind kind);  ///< "text", "tools", "images"

/// One line of the data: a chat, and where known the answer that should follow.
struct Sample {
  Kind kind = Kind::kText;
  std::vector<TokenId>
      tokens;  ///< the whole chat with its answer: what both models are forced along
  std::vector<TokenId> prompt;  ///< up to the beginning of the answer; empty without one
  std::string ability;
  std::optional<Json> answer;  ///< a text, or a list of calls {"name", "arguments"}
  Json tools;                  ///< null when there are none
};

struct Data {
  std::vector<Sample> samples;
  std::size_t skipped_images =
      0;  ///< samples that show images, which this comparison does not read yet
  std::size_t skipped_long = 0;
};

/// Lines {"messages": [...], "tools"?, "answer"?, "ability"?, "images"?, "chat_template_kwargs"?}.
/// Samples of more than `max_tokens` are counted and left out. Errors: kInvalidArgument naming the
/// line.
Result<Data> read_data(std::string_view jsonl, std::string_view name, const ChatTemplate& chat,
                       const Tokenizer& tokenizer, TokenId bos, std::size_t max_tokens);

}  // namespace gem8::eval
