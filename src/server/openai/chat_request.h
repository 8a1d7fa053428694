#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "foundation/json/json.h"
#include "foundation/result.h"
#include "server/openai/generation.h"

namespace gem8::openai {

/// An image a message refers to, in the order of the prompt.
struct ImagePart {
  std::size_t message = 0;  ///< index in messages
  std::size_t part = 0;     ///< index in its content
  std::string url;          ///< data:, http(s): or file:
  std::string field;        ///< where it stands: "messages[0].content[1].image_url.url"
};

enum class ToolChoice { kNone, kAuto };

/// A body of POST /v1/chat/completions, checked.
struct ChatRequest {
  std::string model;  ///< empty: whatever is served
  Json messages;  ///< as sent; every message an object with a role, every content string, null or a
                  ///< list of known parts
  Json tools;     ///< as sent, or null
  ToolChoice tool_choice = ToolChoice::kNone;
  bool parallel_tool_calls = true;
  Json template_kwargs;  ///< an object: chat_template_kwargs and what reasoning_effort means for it
  bool add_generation_prompt = true;
  bool include_reasoning = true;
  std::vector<ImagePart> images;
  std::optional<int> soft_tokens;  ///< of mm_processor_kwargs: the budget of each image
  std::string request_id;          ///< empty: none given
  Generation generation;
};

/// Errors as parse_generation(); kCorrupt for text that is no JSON object.
Result<ChatRequest> parse_chat_request(std::string_view body, const GenerationDefaults& defaults);

/// The parts of it that a prompt is rendered from, for /tokenize too: messages, tools,
/// chat_template_kwargs and their kin.
Result<ChatRequest> parse_chat_prompt(const Json& body);

}  // namespace gem8::openai
