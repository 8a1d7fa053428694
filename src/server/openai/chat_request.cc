#include "server/openai/chat_request.h"

#include <algorithm>
#include <array>

#include "server/media/image_request.h"
#include "server/openai/error.h"

namespace gem8::openai {
namespace {

constexpr std::array<std::string_view, 5> kTextParts = {"text", "input_text", "output_text",
                                                        "refusal", "thinking"};
constexpr std::array<std::string_view, 3> kImageParts = {"image_url", "input_image", "image"};

template <std::size_t N>
bool is_one_of(std::string_view value, const std::array<std::string_view, N>& list) {
  return std::find(list.begin(), list.end(), value) != list.end();
}

/// The type a part says it has, or the one its keys give away.
std::string_view part_type(const Json& part) {
  if (const Json* type = part.find("type"); type != nullptr && type->is_string())
    return type->as_string();
  if (part.find("text") != nullptr) return "text";
  if (part.find("image_url") != nullptr) return "image_url";
  if (part.find("image") != nullptr) return "image";
  return {};
}

Status check_part(const Json& part, std::size_t message, std::size_t index,
                  std::vector<ImagePart>& images) {
  const std::string where = fmt::format("messages[{}].content[{}]", message, index);
  if (part.is_string()) return {};
  if (!part.is_object())
    return mistyped("messages", "{}: found {}, wanted an object or a string", where,
                    part.kind_name());
  const std::string_view type = part_type(part);
  if (is_one_of(type, kTextParts)) {
    const Json* text = part.find(part.find("text") != nullptr ? "text" : type);
    if (text == nullptr || !text->is_string())
      return mistyped("messages", "{}: a part of type '{}' needs a string 'text'", where, type);
    return {};
  }
  if (is_one_of(type, kImageParts)) {
    // {"image_url": {"url": ...}}, or the string alone; templates' own form is {"image": ...}.
    const std::string_view key = part.find("image_url") != nullptr ? "image_url" : "image";
    std::string field = fmt::format("{}.{}", where, key);
    const Json* url = part.find(key);
    if (url != nullptr && url->is_object()) {
      url = url->find("url");
      field += ".url";
    }
    if (url == nullptr || !url->is_string())
      return mistyped("messages", "{}: an image needs 'image_url' with a string 'url'", where);
    images.push_back({message, index, url->as_string(), std::move(field)});
    return {};
  }
  return std::unexpected(Error{
      Code::kUnsupported,
      fmt::format("{}: content of type '{}' is not supported; supported are text and image_url",
                  where, type),
      "messages"});
}

Status check_message(const Json& message, std::size_t index, std::vector<ImagePart>& images) {
  if (!message.is_object())
    return mistyped("messages", "messages[{}]: found {}, wanted an object", index,
                    message.kind_name());
  const Json* role = message.find("role");
  if (role == nullptr || !role->is_string())
    return mistyped("messages", "messages[{}].role: field required, a string", index);
  const Json* content = message.find("content");
  if (content != nullptr && content->is_array()) {
    for (std::size_t i = 0; i < content->as_array().size(); ++i) {
      GEM8_RETURN_IF_ERROR(check_part(content->as_array()[i], index, i, images));
    }
  } else if (content != nullptr && !content->is_string() && !content->is_null()) {
    return mistyped("messages",
                    "messages[{}].content: found {}, wanted a string or a list of parts", index,
                    content->kind_name());
  }
  if (const Json* calls = message.find("tool_calls");
      calls != nullptr && !calls->is_null() && !calls->is_array()) {
    return mistyped("messages", "messages[{}].tool_calls: found {}, wanted a list", index,
                    calls->kind_name());
  }
  return {};
}

Status check_tools(const Json& tools) {
  if (tools.as_array().empty())
    return bad_field("tools", "tools must not be empty: leave it out instead");
  for (std::size_t i = 0; i < tools.as_array().size(); ++i) {
    const Json& tool = tools.as_array()[i];
    if (!tool.is_object())
      return mistyped("tools", "tools[{}]: found {}, wanted an object", i, tool.kind_name());
    const Json* function = tool.find("function");
    const Json* name = function != nullptr ? function->find("name") : tool.find("name");
    if (name == nullptr || !name->is_string() || name->as_string().empty()) {
      return mistyped("tools", "tools[{}].function.name: field required, a string", i);
    }
    const Json* parameters = (function != nullptr ? function : &tool)->find("parameters");
    if (parameters != nullptr && !parameters->is_null() && !parameters->is_object()) {
      return mistyped("tools",
                      "tools[{}].function.parameters: found {}, wanted a JSON schema object", i,
                      parameters->kind_name());
    }
  }
  return {};
}

Result<ToolChoice> read_tool_choice(const Fields& fields, bool has_tools) {
  const Json* choice = fields.find("tool_choice");
  if (choice == nullptr) return has_tools ? ToolChoice::kAuto : ToolChoice::kNone;
  const bool named = choice->is_object();
  if (!named && !choice->is_string()) {
    return mistyped("tool_choice", "tool_choice: found {}, wanted a string or an object",
                    choice->kind_name());
  }
  if (!named && choice->as_string() == "none") return ToolChoice::kNone;
  if (!has_tools) return bad_field("tool_choice", "When using `tool_choice`, `tools` must be set.");
  if (!named && choice->as_string() == "auto") return ToolChoice::kAuto;
  if (named || choice->as_string() == "required") {
    return std::unexpected(
        Error{Code::kUnsupported,
              fmt::format("tool_choice {} is not supported yet: only 'auto' and 'none' are",
                          named ? "with a named function" : "'required'"),
              "tool_choice"});
  }
  return bad_field("tool_choice",
                   "tool_choice '{}': wanted none, auto, required or a named function",
                   choice->as_string());
}

/// reasoning_effort is a word for enable_thinking, unless the template's variable is given itself.
Result<Json> read_template_kwargs(const Fields& fields) {
  GEM8_TRY(const Json* given, fields.object("chat_template_kwargs"));
  Json kwargs = given != nullptr ? *given : Json::object();
  if (kwargs.find("chat_template") != nullptr) {
    return bad_field("chat_template_kwargs", "chat_template_kwargs must not hold 'chat_template'");
  }
  GEM8_TRY(std::optional<std::string> effort, fields.string("reasoning_effort"));
  if (!effort) {
    GEM8_TRY(const Json* reasoning, fields.object("reasoning"));
    if (reasoning != nullptr) {
      GEM8_TRY(effort, Fields(*reasoning).string("effort"));
    }
  }
  if (!effort) return kwargs;
  constexpr std::array<std::string_view, 7> kEfforts = {"none", "minimal", "low", "medium",
                                                        "high", "xhigh",   "max"};
  if (!is_one_of(*effort, kEfforts)) {
    return bad_field("reasoning_effort",
                     "reasoning_effort '{}': wanted none, minimal, low, medium, high, xhigh or max",
                     *effort);
  }
  if (kwargs.find("enable_thinking") == nullptr) kwargs.set("enable_thinking", *effort != "none");
  return kwargs;
}

Status read_token_limits(const Fields& fields, const GenerationDefaults& defaults,
                         Generation& generation) {
  for (const std::string_view key : {"max_completion_tokens", "max_tokens"}) {
    GEM8_TRY(const std::optional<std::int64_t> limit, fields.integer(key));
    if (!limit) continue;
    if (*limit < 1) return bad_field(key, "{} must be at least 1, got {}.", key, *limit);
    if (generation.max_tokens) continue;
    generation.max_tokens = limit;
    generation.max_tokens_field = key;
  }
  if (!generation.max_tokens) generation.max_tokens = defaults.max_new_tokens;
  apply_token_limit(defaults, generation);
  return {};
}

Status read_logprobs(const Fields& fields, Generation& generation) {
  GEM8_TRY(const std::optional<bool> wanted, fields.boolean("logprobs"));
  GEM8_TRY(const std::optional<std::int64_t> top, fields.integer("top_logprobs"));
  if (top && *top != 0 && !wanted.value_or(false))
    return bad_field("top_logprobs", "when using `top_logprobs`, `logprobs` must be set to true.");
  if (!wanted.value_or(false)) return {};
  const std::int64_t n = top.value_or(0);
  if (n < 0)
    return bad_field("top_logprobs", "top_logprobs must be 0 to {}, got {}", kMaxLogprobs, n);
  if (n > kMaxLogprobs) {
    return bad_field("top_logprobs",
                     "Requested sample logprobs of {}, which is greater than max allowed: {}", n,
                     kMaxLogprobs);
  }
  generation.sampling.n_logprobs = static_cast<std::int32_t>(n);
  return {};
}

}  // namespace

Result<ChatRequest> parse_chat_prompt(const Json& body) {
  if (!body.is_object())
    return mistyped("", "the body is {}, wanted a JSON object", body.kind_name());
  const Fields fields(body);
  ChatRequest request;
  GEM8_TRY(const Json* messages, fields.array("messages"));
  if (messages == nullptr) return mistyped("messages", "messages: field required");
  if (messages->as_array().empty()) return bad_field("messages", "messages must not be empty");
  for (std::size_t i = 0; i < messages->as_array().size(); ++i) {
    GEM8_RETURN_IF_ERROR(check_message(messages->as_array()[i], i, request.images));
  }
  request.messages = *messages;

  GEM8_TRY(const Json* tools, fields.array("tools"));
  if (tools != nullptr) {
    GEM8_RETURN_IF_ERROR(check_tools(*tools));
    request.tools = *tools;
  }
  GEM8_TRY(request.tool_choice, read_tool_choice(fields, tools != nullptr));
  GEM8_TRY(request.template_kwargs, read_template_kwargs(fields));
  GEM8_TRY(const std::optional<bool> add_prompt, fields.boolean("add_generation_prompt"));
  request.add_generation_prompt = add_prompt.value_or(true);
  GEM8_TRY(const std::optional<std::string> model, fields.string("model"));
  request.model = model.value_or("");
  if (const Json* kwargs = fields.find("mm_processor_kwargs")) {
    GEM8_TRY(request.soft_tokens, parse_mm_processor_kwargs(*kwargs));
  }
  GEM8_RETURN_IF_ERROR(refuse_unsupported(
      fields, {"continue_final_message", "documents", "chat_template", "media_io_kwargs"}));
  return request;
}

Result<ChatRequest> parse_chat_request(std::string_view text, const GenerationDefaults& defaults) {
  GEM8_TRY(const Json body, parse_json(text));
  GEM8_TRY(ChatRequest request, parse_chat_prompt(body));
  const Fields fields(body);
  GEM8_RETURN_IF_ERROR(refuse_unsupported(fields, {"echo"}));
  GEM8_TRY(request.generation, parse_generation(fields, defaults));
  GEM8_RETURN_IF_ERROR(read_token_limits(fields, defaults, request.generation));
  GEM8_RETURN_IF_ERROR(read_logprobs(fields, request.generation));
  GEM8_TRY(const std::optional<bool> parallel, fields.boolean("parallel_tool_calls"));
  request.parallel_tool_calls = parallel.value_or(true);
  GEM8_TRY(const std::optional<bool> include_reasoning, fields.boolean("include_reasoning"));
  request.include_reasoning = include_reasoning.value_or(true);
  GEM8_TRY(const std::optional<std::string> request_id, fields.string("request_id"));
  request.request_id = request_id.value_or("");
  return request;
}

}  // namespace gem8::openai
