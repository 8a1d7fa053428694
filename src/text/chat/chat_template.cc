#include "text/chat/chat_template.h"

#include "foundation/mapped_file.h"

namespace gem8 {
namespace {

constexpr std::size_t kMaxTemplateBytes = std::size_t{4} << 20;

/// A token of tokenizer_config.json: a text, or an object that holds it.
std::string token_text(const Json& config, std::string_view name, std::string_view fallback) {
  const Json* token = config.find(name);
  if (token != nullptr && token->is_object()) token = token->find("content");
  return token != nullptr && token->is_string() ? token->as_string() : std::string(fallback);
}

}  // namespace

Result<ChatTemplate> ChatTemplate::parse(std::string_view source, std::string bos_token,
                                         std::string eos_token) {
  auto program = jinja::Template::parse(source);
  if (!program) return std::unexpected(program.error().to_error());
  return ChatTemplate(std::move(*program), std::move(bos_token), std::move(eos_token));
}

Result<ChatTemplate> ChatTemplate::load(const std::filesystem::path& folder) {
  Json config;
  if (auto text = read_text_file(folder / "tokenizer_config.json", std::size_t{64} << 20)) {
    auto parsed = parse_json(*text);
    if (!parsed)
      return fail_in((folder / "tokenizer_config.json").string(), std::move(parsed).error());
    config = std::move(*parsed);
  } else if (text.error().code != Code::kNotFound) {
    return std::unexpected(std::move(text).error());
  }
  std::string source;
  std::filesystem::path from = folder / "chat_template.jinja";
  if (auto text = read_text_file(from, kMaxTemplateBytes)) {
    source = std::move(*text);
  } else if (text.error().code != Code::kNotFound) {
    return std::unexpected(std::move(text).error());
  } else if (const Json* embedded = config.find("chat_template");
             embedded != nullptr && embedded->is_string()) {
    from = folder / "tokenizer_config.json";
    source = embedded->as_string();
  } else {
    return fail(Code::kNotFound,
                "'{}' has no chat_template.jinja, and its tokenizer_config.json no chat_template",
                folder.string());
  }
  auto chat = parse(source, token_text(config, "bos_token", "<bos>"),
                    token_text(config, "eos_token", "<eos>"));
  if (!chat) return fail_in(from.string(), std::move(chat).error());
  return chat;
}

Result<std::string> render_chat(const ChatTemplate& chat, const Json& request,
                                const std::function<std::tm()>& now) {
  const Json* messages = request.find("messages");
  if (messages == nullptr) return fail(Code::kInvalidArgument, "'messages' is missing");
  GEM8_TRY(Json normal_messages, normalized_messages(*messages));
  const Json* tools = request.find("tools");
  GEM8_TRY(Json normal_tools, normalized_tools(tools != nullptr ? *tools : Json()));
  const auto flag = [&](std::string_view name, bool fallback) -> Result<bool> {
    const Json* value = request.find(name);
    if (value == nullptr || value->is_null()) return fallback;
    if (!value->is_bool())
      return fail(Code::kInvalidArgument, "'{}': found {}, wanted boolean", name,
                  value->kind_name());
    return value->as_bool();
  };
  GEM8_TRY(const bool continues, flag("continue_final_message", false));
  GEM8_TRY(const bool generates, flag("add_generation_prompt", !continues));
  if (continues && generates) {
    return fail(Code::kInvalidArgument,
                "'continue_final_message' and 'add_generation_prompt' exclude each other");
  }
  Json context = Json::object();
  context.set("messages", std::move(normal_messages));
  context.set("tools", std::move(normal_tools));
  const Json* documents = request.find("documents");
  context.set("documents", documents != nullptr ? *documents : Json());
  context.set("add_generation_prompt", generates);
  context.set("bos_token", chat.bos_token());
  context.set("eos_token", chat.eos_token());
  if (const Json* effort = request.find("reasoning_effort");
      effort != nullptr && !effort->is_null()) {
    if (!effort->is_string())
      return fail(Code::kInvalidArgument, "'reasoning_effort': found {}, wanted string",
                  effort->kind_name());
    context.set("enable_thinking", effort->as_string() != "none");
  }
  if (const Json* extra = request.find("chat_template_kwargs");
      extra != nullptr && !extra->is_null()) {
    if (!extra->is_object())
      return fail(Code::kInvalidArgument, "'chat_template_kwargs': found {}, wanted object",
                  extra->kind_name());
    for (const JsonMember& member : extra->as_object()) {
      for (const std::string_view reserved :
           {"messages", "tools", "chat_template", "tokenize", "bos_token", "eos_token"}) {
        if (member.key == reserved)
          return fail(Code::kInvalidArgument, "'chat_template_kwargs' may not set '{}'", reserved);
      }
      context.set(member.key, member.value);
    }
  }
  jinja::RenderOptions options;
  options.now = now;
  auto text = chat.program().render(jinja::Value::from_json(context), options);
  if (!text) return std::unexpected(text.error().to_error());
  constexpr std::string_view kTurnEnd = "<turn|>\n";
  if (continues && text->ends_with(kTurnEnd)) text->resize(text->size() - kTurnEnd.size());
  return std::move(*text);
}

}  // namespace gem8
