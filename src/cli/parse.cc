// gem8 parse DIR: model output to reasoning, content and tool calls, as the server would send it.
#include <memory>
#include <string>

#include "cli/command.h"
#include "cli/json_input.h"
#include "formats/locate.h"
#include "foundation/json/fields.h"
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

enum class ToolChoice { kAny, kNone, kNamed };

Result<ToolChoice> tool_choice_of(const Json& line) {
  const Json* choice = line.find("tool_choice");
  if (choice == nullptr || choice->is_null()) return ToolChoice::kAny;
  if (choice->is_object()) return ToolChoice::kNamed;
  const std::string_view word = choice->is_string() ? choice->as_string() : std::string_view();
  if (word == "none") return ToolChoice::kNone;
  if (word == "auto" || word == "required") return ToolChoice::kAny;
  return fail(Code::kInvalidArgument,
              "'tool_choice': found {}, wanted \"auto\", \"required\", \"none\" or a function",
              to_text(*choice).substr(0, 40));
}

/// "length", or which stop ended the answer: a stop string or one of the tokens.
Result<EndedBy> ended_by_of(const JsonFields& fields) {
  GEM8_TRY(const std::string word, fields.optional_string("ended_by", "stop"));
  if (word == "length") return EndedBy::kLength;
  for (const std::string_view stop : {"stop", "<turn|>", "<|tool_response>", "<eos>"}) {
    if (word == stop) return EndedBy::kStopToken;
  }
  return fail(Code::kInvalidArgument,
              "'ended_by': found '{}', wanted length, stop, <turn|>, <|tool_response> or <eos>",
              word);
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
  const JsonFields fields(line, "");
  GEM8_TRY(const Json* tools, fields.optional_array("tools"));
  if (tools != nullptr) options.tools = *tools;
  GEM8_TRY(const ToolChoice choice, tool_choice_of(line));
  options.drop_calls = choice == ToolChoice::kNone;
  GEM8_TRY(const EndedBy ended_by, ended_by_of(fields));

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
  join(parser.finish(ended_by));
  FinishReason reason = parser.finish_reason();
  if (choice == ToolChoice::kNamed && reason == FinishReason::kToolCalls)
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
