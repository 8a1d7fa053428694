// gem8 parse DIR: model output to reasoning, content and tool calls, as the server would send it.
#include <memory>
#include <string>

#include "cli/command.h"
#include "cli/json_input.h"
#include "formats/locate.h"
#include "text/output/output_parser.h"

namespace gem8::cli {
namespace {

struct Options {
  std::string folder;
  bool lines = false;
  bool stream = false;
};

Result<std::vector<TokenId>> tokens_of(const Tokenizer& tokenizer, const Json& value) {
  if (value.is_string()) return tokenizer.encode(value.as_string());
  return ids_of(value);
}

std::string_view name_of(FinishReason reason) {
  switch (reason) {
    case FinishReason::kStop:
      return "stop";
    case FinishReason::kLength:
      return "length";
    case FinishReason::kToolCalls:
      return "tool_calls";
  }
  return "stop";
}

Result<Json> parse_output(const Tokenizer& tokenizer, const Json& line) {
  const Json* input = line.find("ids");
  if (input == nullptr) input = line.find("text");
  if (input == nullptr) return fail(Code::kInvalidArgument, "neither 'ids' nor 'text' is there");
  GEM8_TRY(const auto ids, tokens_of(tokenizer, *input));
  ParserOptions options;
  if (const Json* tail = line.find("prompt_tail"); tail != nullptr && !tail->is_null()) {
    GEM8_TRY(options.prompt_tail, tokens_of(tokenizer, *tail));
  }
  if (const Json* tools = line.find("tools")) options.tools = *tools;
  const Json* choice = line.find("tool_choice");
  options.drop_calls = choice != nullptr && choice->is_string() && choice->as_string() == "none";
  const Json* ended_by = line.find("ended_by");
  const bool by_length =
      ended_by != nullptr && ended_by->is_string() && ended_by->as_string() == "length";

  OutputParser parser(tokenizer, std::move(options));
  std::string reasoning, content;
  std::vector<Json> calls;
  const auto join = [&](const OutputDelta& delta) {
    reasoning += delta.reasoning;
    content += delta.content;
    for (const ToolCallDelta& call : delta.tool_calls) {
      if (call.index >= calls.size()) {
        calls.push_back(Json::object(
            {{"id", fmt::format("call_{}", call.index)},
             {"type", "function"},
             {"function", Json::object({{"name", call.name.value_or("")}, {"arguments", ""}})}}));
      }
      Json& arguments = *calls[call.index].find("function")->find("arguments");
      arguments = arguments.as_string() + call.arguments;
    }
  };
  for (const TokenId id : ids) join(parser.feed(id));
  join(parser.finish(by_length ? EndedBy::kLength : EndedBy::kStopToken));
  FinishReason reason = parser.finish_reason();
  const bool named = choice != nullptr && choice->is_object();
  if (named && reason == FinishReason::kToolCalls)
    reason = FinishReason::kStop;  // what OpenAI answers to a named choice
  return Json::object({{"reasoning", reasoning.empty() ? Json() : Json(reasoning)},
                       {"content", content.empty() ? Json() : Json(content)},
                       {"tool_calls", Json(Json::Array(calls.begin(), calls.end()))},
                       {"finish_reason", name_of(reason)}});
}

Result<int> run_parse(const Options& options) {
  GEM8_TRY(const std::filesystem::path folder, resolve_model_dir(options.folder));
  GEM8_TRY(const Tokenizer tokenizer, Tokenizer::load(folder));
  if (options.lines) {
    GEM8_RETURN_IF_ERROR(
        answer_lines([&](const Json& line) { return parse_output(tokenizer, line); }));
    return kDone;
  }
  GEM8_TRY(const std::string input, read_stdin());
  auto line = parse_json(input);
  const bool is_request =
      line && line->is_object() && (line->find("ids") != nullptr || line->find("text") != nullptr);
  GEM8_TRY(const Json answer,
           parse_output(tokenizer, is_request ? *line : Json::object({{"text", input}})));
  GEM8_RETURN_IF_ERROR(write_stdout(to_text(answer) + "\n"));
  return kDone;
}

}  // namespace

Command add_parse(CLI::App& app, const CommonOptions&) {
  const auto options = std::make_shared<Options>();
  CLI::App* command =
      app.add_subcommand("parse", "Split model output into reasoning, content and tool calls");
  command->add_option("DIR", options->folder, "Checkpoint, or a folder with a tokenizer.json")
      ->required();
  command->add_flag("--lines", options->lines,
                    "One {\"ids\"} or {\"text\"} a line in, one answer a line out");
  command->add_flag("--stream", options->stream,
                    "Feed one token at a time and join the deltas: the parser knows no other way");
  return {command, [options] { return run_parse(*options); }};
}

}  // namespace gem8::cli
