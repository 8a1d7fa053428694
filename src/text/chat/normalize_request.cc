// Brings what OpenAI clients send into the form Gemma's template accepts (chat specification 2.2).
#include <algorithm>
#include <optional>

#include "text/chat/chat_template.h"

namespace gem8 {
namespace {

std::string where(std::size_t message) {
  return fmt::format("messages[{}]", message);
}

/// "" for null, absent, or an empty text or list.
bool has_content(const Json& message) {
  const Json* content = message.find("content");
  if (content == nullptr || content->is_null()) return false;
  if (content->is_string()) return !content->as_string().empty();
  return !content->is_array() || !content->as_array().empty();
}

void normalize_parts(Json& message) {
  Json* content = message.find("content");
  if (content == nullptr || !content->is_array()) return;
  for (Json& part : content->as_array()) {
    if (part.is_string()) part = Json::object({{"type", "text"}, {"text", part}});
    if (part.is_object() && (part.find("type") == nullptr || part.find("type")->is_null())) {
      for (const std::string_view kind : {"text", "image_url", "image"}) {
        if (part.find(kind) == nullptr) continue;
        part.set("type", kind);
        break;
      }
    }
    const Json* type = part.find("type");
    if (type == nullptr || !type->is_string()) continue;
    const std::string kind = type->as_string();
    if (kind == "input_text" || kind == "output_text") part.set("type", "text");
    if (kind == "refusal") {
      if (const Json* text = part.find("refusal")) part.set("text", Json(*text));
      part.set("type", "text");
    }
    if (kind == "input_image") part.set("type", "image");
    if (kind == "video_url" || kind == "input_video") part.set("type", "video");
    if (kind == "audio_url") part.set("type", "audio");
  }
}

/// N1: arguments as an object.
Status normalize_arguments(Json& call, const std::string& context) {
  Json* function = call.find("function");
  if (function == nullptr || !function->is_object())
    return fail(Code::kInvalidArgument, "{}: a tool call without 'function'", context);
  const Json* name = function->find("name");
  if (name == nullptr || !name->is_string())
    return fail(Code::kInvalidArgument, "{}: a tool call without a function name", context);
  const Json* arguments = function->find("arguments");
  if (arguments == nullptr || arguments->is_null()) {
    function->set("arguments", Json::object());
    return {};
  }
  if (arguments->is_string()) {
    const std::string text = arguments->as_string();
    if (text.find_first_not_of(" \t\r\n") == std::string::npos) {
      function->set("arguments", Json::object());
      return {};
    }
    auto parsed = parse_json(text);
    if (!parsed)
      return fail(Code::kInvalidArgument, "{}: the arguments of '{}': {}", context,
                  name->as_string(), parsed.error().message);
    if (parsed->is_null()) parsed = Json::object();
    function->set("arguments", std::move(*parsed));
  }
  arguments = function->find("arguments");
  if (!arguments->is_object()) {
    return fail(Code::kInvalidArgument, "{}: the arguments of '{}': found {}, wanted object",
                context, name->as_string(), arguments->kind_name());
  }
  return {};
}

/// The text of a tool's result that came as text parts, which the template would run together: a
/// line each, as vLLM has it (chat specification 2.2, b). nullopt when other parts are among them.
std::optional<std::string> joined_text(const Json::Array& parts) {
  std::string joined;
  for (const Json& part : parts) {
    const Json* type = part.find("type");
    const Json* text = part.find("text");
    if (type == nullptr || *type != Json("text") || text == nullptr || !text->is_string())
      return std::nullopt;
    if (&part != &parts.front()) joined += '\n';
    joined += text->as_string();
  }
  return joined;
}

std::string role_of(const Json& message) {
  const Json* role = message.find("role");
  return role != nullptr && role->is_string() ? role->as_string() : std::string();
}

/// N5: calls without an id get one, and results without one get those in order.
void number_calls(Json::Array& messages) {
  std::vector<std::string> open;  // ids of the calls that wait for a result
  std::size_t n_made = 0;
  for (Json& message : messages) {
    if (Json* calls = message.find("tool_calls"); calls != nullptr && calls->is_array()) {
      open.clear();
      for (Json& call : calls->as_array()) {
        const Json* id = call.find("id");
        if (id == nullptr || !id->is_string()) call.set("id", fmt::format("call_{}", n_made++));
        open.push_back(call.find("id")->as_string());
      }
    } else if (role_of(message) == "tool") {
      const Json* id = message.find("tool_call_id");
      if (id != nullptr && id->is_string()) {
        std::erase(open, id->as_string());
      } else if (!open.empty()) {
        message.set("tool_call_id", open.front());
        open.erase(open.begin());
      }
    }
  }
}

}  // namespace

Result<Json> normalized_messages(const Json& messages) {
  if (!messages.is_array())
    return fail(Code::kInvalidArgument, "'messages': found {}, wanted array", messages.kind_name());
  Json::Array out;
  for (std::size_t i = 0; i < messages.as_array().size(); ++i) {
    Json message = messages.as_array()[i];
    if (!message.is_object())
      return fail(Code::kInvalidArgument, "{}: found {}, wanted object", where(i),
                  message.kind_name());
    const std::string role = role_of(message);
    if (role.empty()) return fail(Code::kInvalidArgument, "{}: 'role' is missing", where(i));
    normalize_parts(message);
    if (role == "developer" && i > 0) message.set("role", "system");
    if (role == "tool") {
      const bool follows_calls = !out.empty() && (role_of(out.back()) == "tool" ||
                                                  out.back().find("tool_calls") != nullptr);
      if (!follows_calls)
        return fail(Code::kInvalidArgument, "{}: a tool result that follows no tool call",
                    where(i));
      if (const Json* content = message.find("content");
          content != nullptr && content->is_object()) {
        message.set("content", to_text(*content, {.python_spaces = true}));
      } else if (content != nullptr && content->is_array() && !content->as_array().empty()) {
        if (auto text = joined_text(content->as_array())) message.set("content", *std::move(text));
      }
    }
    if (role == "assistant") {
      const Json *first = message.find("reasoning"), *second = message.find("reasoning_content");
      const Json* reasoning = first != nullptr && !first->is_null() ? first : second;
      if (reasoning != nullptr && !reasoning->is_null()) {
        const Json text = *reasoning;
        message.set("reasoning", text);
        message.set("reasoning_content", text);
      }
      if (Json* calls = message.find("tool_calls")) {
        if (!calls->is_null() && !calls->is_array()) {
          return fail(Code::kInvalidArgument, "{}: 'tool_calls': found {}, wanted array", where(i),
                      calls->kind_name());
        }
        if (calls->is_null() || calls->as_array().empty()) {
          std::erase_if(message.as_object(),
                        [](const JsonMember& member) { return member.key == "tool_calls"; });
        } else {
          for (Json& call : calls->as_array())
            GEM8_RETURN_IF_ERROR(normalize_arguments(call, where(i)));
          if (has_content(
                  message)) {  // the model writes content before calls: so does the prompt then
            Json before = message;
            std::erase_if(before.as_object(),
                          [](const JsonMember& member) { return member.key == "tool_calls"; });
            out.push_back(std::move(before));
            std::erase_if(message.as_object(), [](const JsonMember& member) {
              return member.key == "content" || member.key == "reasoning" ||
                     member.key == "reasoning_content";
            });
          }
        }
      }
    }
    out.push_back(std::move(message));
  }
  number_calls(out);
  return Json(std::move(out));
}

Result<Json> normalized_tools(const Json& tools) {
  if (tools.is_null()) return Json();
  if (!tools.is_array())
    return fail(Code::kInvalidArgument, "'tools': found {}, wanted array", tools.kind_name());
  if (tools.as_array().empty()) return Json();
  Json out = Json::array();
  for (std::size_t i = 0; i < tools.as_array().size(); ++i) {
    Json tool = tools.as_array()[i];
    if (!tool.is_object())
      return fail(Code::kInvalidArgument, "tools[{}]: found {}, wanted object", i,
                  tool.kind_name());
    if (tool.find("function") == nullptr && tool.find("name") != nullptr) {
      Json function = Json::object();
      for (const JsonMember& member : tool.as_object()) {
        if (member.key != "type") function.set(member.key, member.value);
      }
      tool = Json::object({{"type", "function"}, {"function", std::move(function)}});
    }
    Json* function = tool.find("function");
    if (function == nullptr || !function->is_object() || function->find("name") == nullptr ||
        !function->find("name")->is_string()) {
      return fail(Code::kInvalidArgument, "tools[{}]: a tool without a function name", i);
    }
    std::erase_if(function->as_object(), [](const JsonMember& member) {
      return (member.key == "description" || member.key == "parameters") && member.value.is_null();
    });
    if (Json* parameters = function->find("parameters");
        parameters != nullptr && parameters->is_object() && !parameters->as_object().empty() &&
        parameters->find("type") == nullptr) {
      parameters->set("type", "object");
    }
    out.push_back(std::move(tool));
  }
  return out;
}

std::vector<const Json*> image_parts(const Json& messages) {
  std::vector<const Json*> parts;
  if (!messages.is_array()) return parts;
  for (const Json& message : messages.as_array()) {
    const Json* content = message.find("content");
    if (content == nullptr || !content->is_array()) continue;
    for (const Json& part : content->as_array()) {
      const Json* type = part.find("type");
      if (type == nullptr || !type->is_string()) continue;
      const std::string& kind = type->as_string();
      if (kind == "image" || kind == "image_url" || kind == "input_image") parts.push_back(&part);
    }
  }
  return parts;
}

}  // namespace gem8
