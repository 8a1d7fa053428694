#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "formats/checkpoint.h"
#include "foundation/json/json.h"
#include "foundation/result.h"
#include "foundation/token_id.h"
#include "text/chat/chat_template.h"
#include "text/tokenizer/tokenizer.h"

namespace gem8 {

struct SampleLimits {
  std::size_t max_samples = 512;
  std::size_t max_tokens = 2048;  ///< longer samples are cut
};

struct Samples {
  std::vector<std::vector<TokenId>> tokens;
  std::size_t cut = 0;     ///< samples longer than the limit
  std::size_t images = 0;  ///< samples left out because they show images
};

/// The samples of a JSONL text, one per line: {"messages": [...]} rendered with the checkpoint's
/// chat template (with "tools" and "chat_template_kwargs" where given), {"text": "..."} or
/// {"tokens": [ids]}. What is rendered or plain text begins with one <bos>, whatever the template
/// does; tokens are taken as they are. Tokenizer and template are read when the first line needs
/// them. `name` is what errors call the text. Errors: kInvalidArgument naming the line, also when
/// there is no sample at all; those of the tokenizer and template.
Result<Samples> read_samples(std::string_view jsonl, std::string_view name,
                             const Checkpoint& checkpoint, const SampleLimits& limits);

/// Short chats in several languages, code, arithmetic and tool calls, as JSONL: what calibration
/// runs on when nothing else is given.
std::string_view builtin_calibration();

/// A line's messages, tools and template arguments as ids. `generation_prompt` asks for the
/// beginning of the model's turn at the end.
Result<std::vector<TokenId>> encode_chat(const Json& line, const ChatTemplate& chat,
                                         const Tokenizer& tokenizer, TokenId bos,
                                         bool generation_prompt);

}  // namespace gem8
