#include "quantize/eval/eval_data.h"

#include <algorithm>

#include "quantize/samples.h"

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

Result<Sample> read_sample(const Json& line, const ChatTemplate& chat, const Tokenizer& tokenizer,
                           TokenId bos) {
  Sample sample;
  if (const Json* const tools = line.find("tools"); has_items(tools)) {
    sample.kind = Kind::kTools;
    sample.tools = *tools;
  }
  if (const Json* const ability = line.find("ability");
      ability != nullptr && ability->is_string()) {
    sample.ability = ability->as_string();
  }
  const Json* const answer = line.find("answer");
  Json whole = line;
  if (answer != nullptr && !answer->is_null()) {
    GEM8_TRY(sample.prompt, encode_chat(line, chat, tokenizer, bos, true));
    GEM8_TRY(Json message, answer_message(*answer));
    whole.find("messages")->push_back(std::move(message));
    sample.answer = *answer;
  }
  GEM8_TRY(sample.tokens, encode_chat(whole, chat, tokenizer, bos, false));
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

Result<Data> read_data(std::string_view jsonl, std::string_view name, const ChatTemplate& chat,
                       const Tokenizer& tokenizer, TokenId bos, std::size_t max_tokens) {
  Data data;
  std::size_t number = 0;
  while (!jsonl.empty()) {
    const std::size_t end = std::min(jsonl.find('\n'), jsonl.size());
    const std::string_view text = jsonl.substr(0, end);
    jsonl.remove_prefix(std::min(end + 1, jsonl.size()));
    number += 1;
    if (text.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    const std::string where = fmt::format("{}:{}", name, number);
    const auto refuse = [&where](Error error) {
      error.code = Code::kInvalidArgument;
      return fail_in(where, std::move(error));
    };
    const auto line = parse_json(text);
    if (!line) return refuse(line.error());
    const Json* const messages = line->find("messages");
    if (!has_items(messages)) {
      return fail(Code::kInvalidArgument, "{}: 'messages' is missing, empty or no list", where);
    }
    if (has_items(line->find("images")) || !image_parts(*messages).empty()) {
      data.skipped_images += 1;
      continue;
    }
    auto sample = read_sample(*line, chat, tokenizer, bos);
    if (!sample) return refuse(std::move(sample).error());
    if (sample->tokens.size() > max_tokens) {
      data.skipped_long += 1;
      continue;
    }
    if (sample->tokens.size() > 1) data.samples.push_back(std::move(*sample));
  }
  return data;
}

}  // namespace gem8::eval
