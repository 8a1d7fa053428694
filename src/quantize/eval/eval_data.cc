#include "quantize/eval/eval_data.h"

#include <algorithm>

#include "foundation/json/json_lines.h"

namespace gem8::eval {

namespace {

/// The assistant's message that an answer stands for.
Result<Json> answer_message(const Json& answer) {
  if (answer.is_string()) return Json::object({{"role", "assistant"}, {"content", answer}});
  if (!answer.is_array()) {
    return fail(Code::kInvalidArgument, "'answer': found {}, wanted a text or a list of calls",
                answer.kind_name());
  }
  Json calls = Json::array();
  for (const Json& call : answer.as_array()) {
    const Json* const function = call.find("function");
    calls.push_back(Json::object({{"id", fmt::format("call_{}", calls.as_array().size() + 1)},
                                  {"type", "function"},
                                  {"function", function != nullptr ? *function : call}}));
  }
  return Json::object(
      {{"role", "assistant"}, {"content", Json()}, {"tool_calls", std::move(calls)}});
}

bool has_items(const Json* value) {
  return value != nullptr && value->is_array() && !value->as_array().empty();
}

Status read_attributes(const Json& line, std::vector<std::string>& attributes) {
  const Json* const list = line.find("attributes");
  if (list == nullptr || list->is_null()) return {};
  if (!list->is_array() ||
      !std::ranges::all_of(list->as_array(), [](const Json& word) { return word.is_string(); })) {
    return fail(Code::kInvalidArgument, "'attributes': found {}, wanted a list of words",
                list->kind_name());
  }
  for (const Json& word : list->as_array()) attributes.push_back(word.as_string());
  return {};
}

Result<Sample> read_sample(const Json& line, SampleEncoder& encoder) {
  Sample sample;
  if (const Json* const tools = line.find("tools"); has_items(tools)) {
    sample.kind = Kind::kTools;
    sample.tools = *tools;
  }
  if (shows_images(line)) sample.kind = Kind::kImages;
  GEM8_RETURN_IF_ERROR(read_attributes(line, sample.attributes));
  if (const Json* const ability = line.find("ability");
      ability != nullptr && ability->is_string()) {
    sample.ability = ability->as_string();
  }
  const Json* const answer = line.find("answer");
  Json whole = line;
  if (answer != nullptr && !answer->is_null()) {
    GEM8_TRY(sample.prompt, encoder.chat(line, true));
    GEM8_TRY(Json message, answer_message(*answer));
    whole.find("messages")->push_back(std::move(message));
    sample.answer = *answer;
  }
  GEM8_TRY(sample.whole, encoder.chat(whole, false));
  return sample;
}

}  // namespace

std::string_view kind_name(Kind kind) {
  switch (kind) {
    case Kind::kText:
      return "text";
    case Kind::kTools:
      return "tools";
    case Kind::kImages:
      return "images";
  }
  return "text";
}

Result<Data> read_data(std::string_view jsonl, std::string_view name, SampleEncoder& encoder,
                       std::size_t max_tokens) {
  Data data;
  JsonLines lines(jsonl, name);
  for (;;) {
    GEM8_TRY(const std::optional<Json> line, lines.next());
    if (!line) return data;
    const Json* const messages = line->find("messages");
    if (!has_items(messages)) {
      return fail(Code::kInvalidArgument, "{}: 'messages' is missing, empty or no list",
                  lines.where());
    }
    GEM8_RETURN_IF_ERROR(encoder.prepare_for(*line));
    auto sample = read_sample(*line, encoder);
    if (!sample) {
      Error error = std::move(sample).error();
      error.code = Code::kInvalidArgument;
      return fail_in(lines.where(), std::move(error));
    }
    if (sample->whole.tokens.size() > max_tokens) {
      data.skipped_long += 1;
      continue;
    }
    if (sample->whole.tokens.size() > 1) data.samples.push_back(std::move(*sample));
  }
}

}  // namespace gem8::eval
