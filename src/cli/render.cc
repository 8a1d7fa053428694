// gem8 render DIR: the prompt that a chat request becomes.
#include <ctime>
#include <memory>
#include <optional>
#include <string>

#include "cli/command.h"
#include "cli/json_input.h"
#include "cli/pictures.h"
#include "formats/locate.h"
#include "foundation/mapped_file.h"
#include "text/chat/chat_template.h"
#include "text/tokenizer/tokenizer.h"

namespace gem8::cli {
namespace {

struct Options {
  std::string folder;
  std::string request;
  std::string template_file;
  bool ids = false;
  bool lines = false;
  bool raw_context = false;
  PictureOptions pictures;  // they change ids alone: text has one placeholder for each
};

/// {"template", "context"} through the template engine alone; "now" ("2026-03-04T05:06:07") is the
/// time it sees.
Result<std::string> render_raw(const Json& line) {
  const Json* source = line.find("template");
  const Json* context = line.find("context");
  if (source == nullptr || !source->is_string())
    return fail(Code::kInvalidArgument, "'template' is missing");
  if (context != nullptr && !context->is_object()) {
    return fail(Code::kInvalidArgument, "'context': found {}, wanted object", context->kind_name());
  }
  const auto parsed = jinja::Template::parse(source->as_string());
  if (!parsed) return std::unexpected(parsed.error().to_error());
  jinja::RenderOptions options;
  if (const Json* now = line.find("now"); now != nullptr && now->is_string()) {
    std::tm time{};
    if (strptime(now->as_string().c_str(), "%Y-%m-%dT%H:%M:%S", &time) == nullptr) {
      return fail(Code::kInvalidArgument,
                  "'now': found '{}', wanted a time such as 2026-03-04T05:06:07", now->as_string());
    }
    options.now = [time] { return time; };
  }
  auto text = parsed->render(
      jinja::Value::from_json(context != nullptr ? *context : Json::object()), options);
  if (!text) return std::unexpected(text.error().to_error());
  return std::move(*text);
}

Result<ChatTemplate> load_template(const Options& options, const std::filesystem::path& folder) {
  if (options.template_file.empty()) return ChatTemplate::load(folder);
  GEM8_TRY(const std::string source, read_text_file(options.template_file));
  auto chat = ChatTemplate::parse(source);
  if (!chat) return fail_in(options.template_file, std::move(chat).error());
  return chat;
}

Result<int> run_render(const Options& options) {
  std::optional<ChatTemplate> chat;
  std::optional<Tokenizer> tokenizer;
  std::optional<PicturePlacer> pictures;
  if (!options.raw_context || options.ids) {
    GEM8_TRY(const std::filesystem::path folder, resolve_model_dir(options.folder));
    if (!options.raw_context) {
      GEM8_TRY(chat, load_template(options, folder));
      pictures.emplace(folder, options.pictures);
    }
    if (options.ids) {
      GEM8_TRY(tokenizer, Tokenizer::load(folder));
    }
  }
  const auto render = [&](const Json& request) {
    return options.raw_context ? render_raw(request) : render_chat(*chat, request);
  };
  const auto ids_of_text = [&](const std::string& text,
                               const Json& request) -> Result<std::vector<TokenId>> {
    std::vector<TokenId> ids = tokenizer->encode(text);
    if (pictures) {
      GEM8_TRY(const std::vector<PromptImage> placed, pictures->expand(request, ids));
    }
    return ids;
  };
  if (options.lines) {
    GEM8_RETURN_IF_ERROR(answer_lines([&](const Json& line) -> Result<Json> {
      const auto text = render(line);
      if (!text) return Json::object({{"error", text.error().text()}});
      Json answer = Json::object({{"text", *text}});
      if (tokenizer) {
        const auto ids = ids_of_text(*text, line);
        if (!ids) return Json::object({{"error", ids.error().text()}});
        answer.set("ids", json_of(*ids));
      }
      return answer;
    }));
    return kDone;
  }
  std::string input;
  if (options.request.empty()) {
    GEM8_TRY(input, read_stdin());
  } else {
    GEM8_TRY(input, read_text_file(options.request));
  }
  auto request = parse_json(input);
  if (!request)
    return fail_in(options.request.empty() ? "standard input" : options.request,
                   std::move(request).error());
  GEM8_TRY(const std::string text, render(*request));
  if (!tokenizer) {
    GEM8_RETURN_IF_ERROR(write_stdout(text));
    return kDone;
  }
  GEM8_TRY(const std::vector<TokenId> ids, ids_of_text(text, *request));
  GEM8_RETURN_IF_ERROR(write_stdout(to_text(json_of(ids)) + "\n"));
  return kDone;
}

}  // namespace

Command add_render(CLI::App& app, const CommonOptions&) {
  const auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand("render", "Print the prompt that a chat request becomes");
  command->add_option("DIR", options->folder, "Checkpoint folder, hub id in the cache, or 'demo'")
      ->required();
  command->add_option("--request", options->request,
                      "File with the request (default: standard input)");
  command->add_option("--template", options->template_file,
                      "Chat template to use in place of the checkpoint's");
  command->add_flag("--ids", options->ids,
                    "Print token ids, with as many placeholders as each picture has soft tokens");
  command->add_flag("--lines", options->lines,
                    "One request a line in, {\"text\"} or {\"error\"} a line out");
  command->add_flag("--raw-context", options->raw_context,
                    "A request is {\"template\", \"context\"}: the template engine alone");
  add_picture_options(*command, options->pictures);
  add_local_media_option(*command, options->pictures);
  return {command, [options] { return run_render(*options); }};
}

}  // namespace gem8::cli
