#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "foundation/json/json.h"
#include "foundation/result.h"
#include "quantize/samples.h"
#include "quantize/token_sample.h"

namespace gem8::eval {

enum class Kind { kText, kTools, kImages };
std::string_view kind_name(Kind kind);  ///< "text", "tools", "images"

/// One line of the data: a chat, and where known the answer that should follow.
struct Sample {
  Kind kind = Kind::kText;
  TokenSample whole;   ///< the chat with its answer: what both models are forced along
  TokenSample prompt;  ///< up to the beginning of the answer; empty without one
  std::string ability;
  std::optional<Json> answer;           ///< a text, or a list of calls {"name", "arguments"}
  std::vector<std::string> attributes;  ///< words of a text answer that count one by one
  Json tools;                           ///< null when there are none
};

struct Data {
  std::vector<Sample> samples;
  std::size_t skipped_long = 0;
};

/// Lines {"messages": [...], "tools"?, "answer"?, "attributes"?, "ability"?, "images"?,
/// "chat_template_kwargs"?}. Samples of more than `max_tokens` are counted and left out. Errors:
/// kInvalidArgument naming the line, pictures that cannot be read among them.
Result<Data> read_data(std::string_view jsonl, std::string_view name, SampleEncoder& encoder,
                       std::size_t max_tokens);

}  // namespace gem8::eval
