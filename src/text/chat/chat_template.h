#pragma once

#include <ctime>
#include <filesystem>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "foundation/json/json.h"
#include "foundation/result.h"
#include "text/jinja/template.h"

namespace gem8 {

/// A checkpoint's chat template with the special tokens it prints. Immutable: threads may share
/// one.
class ChatTemplate {
 public:
  /// Reads chat_template.jinja of a checkpoint folder, else the chat_template in its
  /// tokenizer_config.json; bos_token and eos_token come from the latter, "<bos>" and "<eos>"
  /// without it. Errors: kNotFound without a template, kUnsupported for one that asks for something
  /// that is not implemented.
  static Result<ChatTemplate> load(const std::filesystem::path& folder);
  static Result<ChatTemplate> parse(std::string_view source, std::string bos_token = "<bos>",
                                    std::string eos_token = "<eos>");

  const jinja::Template& program() const { return program_; }
  const std::string& bos_token() const { return bos_token_; }
  const std::string& eos_token() const { return eos_token_; }

 private:
  ChatTemplate(jinja::Template program, std::string bos_token, std::string eos_token)
      : program_(std::move(program)),
        bos_token_(std::move(bos_token)),
        eos_token_(std::move(eos_token)) {}

  jinja::Template program_;
  std::string bos_token_, eos_token_;
};

/// The prompt of an OpenAI chat request: `messages`, and optionally `tools`,
/// `chat_template_kwargs`, `add_generation_prompt` (default true), `continue_final_message`,
/// `reasoning_effort`, `documents`. Messages and tools are first brought into the form the template
/// expects (normalized_messages, normalized_tools); then the template runs as transformers'
/// apply_chat_template runs it. Each image leaves one image token in the text (see image_parts).
/// Errors: kInvalidArgument for a request the template, or this, refuses; kExhausted for one beyond
/// the limits. `now` is the local time that templates may ask for; the clock's when empty.
Result<std::string> render_chat(const ChatTemplate& chat, const Json& request,
                                const std::function<std::tm()>& now = {});

/// Call arguments as objects, empty tool_calls dropped, both spellings of reasoning, text part
/// types as "text", JSON results as text, results in text parts as one text with a line for each,
/// a developer message that is not first as system, ids for calls and results that have none, and
/// content beside calls as a message of its own before them (chat specification 2.2, N1 to N11 and
/// b). Errors: kInvalidArgument naming messages[i].
Result<Json> normalized_messages(const Json& messages);
/// Flat (Responses API) tools wrapped, null descriptions and parameters dropped, a missing "type"
/// of parameters set to "object".
Result<Json> normalized_tools(const Json& tools);

/// The image parts of a request's messages in the order of their tokens in the prompt. Pointers
/// into `messages`.
std::vector<const Json*> image_parts(const Json& messages);

}  // namespace gem8
