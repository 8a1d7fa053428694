#include "server/openai/reply.h"

#include <algorithm>
#include <utility>

namespace gem8::openai {
namespace {

/// JSON has no infinities.
float floored(float logprob) {
  return std::max(logprob, -9999.0f);
}

std::string token_text(const Tokenizer& tokenizer, TokenId id, bool as_id) {
  if (as_id) return fmt::format("token_id:{}", value_of(id));
  return tokenizer.decode(std::span(&id, 1));
}

/// What top_logprobs lists: the sampled token first, then the best, each once, n in all.
std::vector<TokenLogprob> sampled_first(const ScoredToken& scored, std::size_t n) {
  std::vector<TokenLogprob> list = {{scored.token.id, scored.token.logprob}};
  for (const TokenLogprob& entry : scored.top) {
    if (entry.id != scored.token.id) list.push_back(entry);
  }
  if (list.size() > n) list.resize(n);
  return list;
}

Json scored_ids_body(const std::vector<ScoredToken>& tokens) {
  Json ids = Json::array();
  for (const ScoredToken& scored : tokens) ids.push_back(value_of(scored.token.id));
  return ids;
}

Json call_body(const WholeChoice::Call& call) {
  return Json::object(
      {{"id", call.id},
       {"type", "function"},
       {"function", Json::object({{"name", call.name}, {"arguments", call.arguments}})}});
}

Json call_piece_body(const CallPiece& piece) {
  Json body = Json::object({{"index", piece.index}});
  Json function = Json::object();
  if (piece.name) {
    body.set("id", piece.id.value_or(""));
    body.set("type", "function");
    function.set("name", *piece.name);
  }
  function.set("arguments", piece.arguments);
  body.set("function", std::move(function));
  return body;
}

}  // namespace

void WholeChoice::add(ChoiceDelta delta) {
  reasoning += delta.reasoning;
  content += delta.content;
  for (CallPiece& piece : delta.calls) {
    if (piece.name) {
      calls.push_back({piece.id.value_or(""), std::move(*piece.name), std::move(piece.arguments)});
    } else if (!calls.empty()) {
      calls.back().arguments += piece.arguments;
    }
  }
  std::move(delta.tokens.begin(), delta.tokens.end(), std::back_inserter(tokens));
  if (delta.end) end = std::move(*delta.end);
}

std::string sse_event(const Json& value) {
  return "data: " + to_text(value) + "\n\n";
}

Json usage_body(const Usage& usage) {
  Json body = Json::object(
      {{"prompt_tokens", usage.prompt_tokens},
       {"total_tokens", usage.prompt_tokens + usage.completion_tokens},
       {"completion_tokens", usage.completion_tokens},
       {"prompt_tokens_details", Json::object({{"cached_tokens", usage.cached_tokens}})}});
  if (usage.reasoning_tokens)
    body.set("completion_tokens_details",
             Json::object({{"reasoning_tokens", *usage.reasoning_tokens}}));
  return body;
}

Json ids_body(std::span<const TokenId> ids) {
  Json list = Json::array();
  for (const TokenId id : ids) list.push_back(value_of(id));
  return list;
}

Json ChatReply::token_entry(TokenId id, float logprob) const {
  Json bytes = Json::array();
  for (const char byte : tokenizer_.token_bytes(id))
    bytes.push_back(static_cast<int>(static_cast<unsigned char>(byte)));
  return Json::object({{"token", token_text(tokenizer_, id, options_.tokens_as_ids)},
                       {"logprob", static_cast<double>(floored(logprob))},
                       {"bytes", std::move(bytes)}});
}

Json ChatReply::logprobs(const std::vector<ScoredToken>& tokens) const {
  if (!options_.n_logprobs || tokens.empty()) return {};
  Json content = Json::array();
  for (const ScoredToken& scored : tokens) {
    Json entry = token_entry(scored.token.id, scored.token.logprob);
    Json top = Json::array();
    for (const TokenLogprob& other :
         sampled_first(scored, static_cast<std::size_t>(*options_.n_logprobs))) {
      top.push_back(token_entry(other.id, other.logprob));
    }
    entry.set("top_logprobs", std::move(top));
    content.push_back(std::move(entry));
  }
  return Json::object({{"content", std::move(content)}});
}

Json ChatReply::whole(const std::vector<WholeChoice>& choices, const Usage& usage,
                      const Json& prompt_token_ids) const {
  Json list = Json::array();
  for (std::size_t i = 0; i < choices.size(); ++i) {
    const WholeChoice& choice = choices[i];
    const Json reasoning = choice.reasoning.empty() ? Json() : Json(choice.reasoning);
    Json message =
        Json::object({{"role", "assistant"},
                      {"content", choice.content.empty() ? Json() : Json(choice.content)},
                      {"refusal", Json()},
                      {"annotations", Json()},
                      {"audio", Json()},
                      {"function_call", Json()},
                      {"reasoning", reasoning},
                      {"reasoning_content", reasoning}});
    if (!choice.calls.empty()) {
      Json calls = Json::array();
      for (const WholeChoice::Call& call : choice.calls) calls.push_back(call_body(call));
      message.set("tool_calls", std::move(calls));
    }
    list.push_back(
        Json::object({{"index", i},
                      {"message", std::move(message)},
                      {"logprobs", logprobs(choice.tokens)},
                      {"finish_reason", choice.end.finish_reason},
                      {"stop_reason", choice.end.stop_reason},
                      {"token_ids", options_.token_ids ? scored_ids_body(choice.tokens) : Json()},
                      {"routed_experts", Json()}}));
  }
  return Json::object({{"id", head_.id},
                       {"object", "chat.completion"},
                       {"created", head_.created},
                       {"model", head_.model},
                       {"choices", std::move(list)},
                       {"service_tier", Json()},
                       {"system_fingerprint", head_.fingerprint},
                       {"usage", usage_body(usage)},
                       {"prompt_logprobs", Json()},
                       {"prompt_token_ids", prompt_token_ids},
                       {"prompt_text", Json()},
                       {"kv_transfer_params", Json()},
                       {"ec_transfer_params", Json()},
                       {"metrics", Json()}});
}

Json ChatReply::chunk(Json choices, const std::optional<Usage>& usage) const {
  Json body = Json::object({{"id", head_.id},
                            {"object", "chat.completion.chunk"},
                            {"created", head_.created},
                            {"model", head_.model},
                            {"choices", std::move(choices)}});
  if (usage) body.set("usage", usage_body(*usage));
  return body;
}

std::string ChatReply::role_chunk(std::size_t index, const std::optional<Usage>& usage,
                                  const Json& prompt_token_ids) const {
  Json body = chunk(
      Json::array({Json::object({{"index", index},
                                 {"delta", Json::object({{"role", "assistant"}, {"content", ""}})},
                                 {"logprobs", Json()},
                                 {"finish_reason", Json()}})}),
      usage);
  body.set("prompt_token_ids", prompt_token_ids);
  body.set("prompt_text", Json());
  return sse_event(body);
}

std::string ChatReply::delta_chunks(std::size_t index, const ChoiceDelta& delta,
                                    const std::optional<Usage>& usage,
                                    bool fingerprint_at_end) const {
  std::string events;
  Json scores = logprobs(delta.tokens);
  Json ids = options_.token_ids && !delta.tokens.empty() ? scored_ids_body(delta.tokens) : Json();
  // Log-probabilities and ids go with the first chunk of the token.
  const auto choice = [&](Json what) {
    return Json::object({{"index", index},
                         {"delta", std::move(what)},
                         {"logprobs", std::exchange(scores, {})},
                         {"finish_reason", Json()},
                         {"token_ids", std::exchange(ids, {})}});
  };
  const auto emit = [&](Json what) {
    events += sse_event(chunk(Json::array({choice(std::move(what))}), usage));
  };
  if (!delta.reasoning.empty())
    emit(Json::object({{"reasoning", delta.reasoning}, {"reasoning_content", delta.reasoning}}));
  if (!delta.content.empty()) emit(Json::object({{"content", delta.content}}));
  if (!delta.calls.empty()) {
    Json calls = Json::array();
    for (const CallPiece& piece : delta.calls) calls.push_back(call_piece_body(piece));
    emit(Json::object({{"tool_calls", std::move(calls)}}));
  }
  if (delta.end) {
    Json last = Json::object({{"index", index},
                              {"delta", Json::object({{"content", ""}})},
                              {"logprobs", std::move(scores)},
                              {"finish_reason", delta.end->finish_reason},
                              {"stop_reason", delta.end->stop_reason},
                              {"token_ids", std::move(ids)}});
    Json body = chunk(Json::array({std::move(last)}), usage);
    if (fingerprint_at_end) body.set("system_fingerprint", head_.fingerprint);
    events += sse_event(body);
  } else if (!scores.is_null() || !ids.is_null()) {
    emit(Json::object({{"content", ""}}));  // text held back, but its numbers are due
  }
  return events;
}

std::string ChatReply::usage_chunk(const Usage& usage) const {
  Json body = chunk(Json::array(), usage);
  body.set("system_fingerprint", head_.fingerprint);
  return sse_event(body);
}

Json CompletionReply::body(Json choices) const {
  return Json::object({{"id", head_.id},
                       {"object", "text_completion"},
                       {"created", head_.created},
                       {"model", head_.model},
                       {"choices", std::move(choices)}});
}

Json CompletionReply::logprobs(const std::vector<ScoredToken>& tokens) const {
  if (!options_.n_logprobs || tokens.empty()) return {};
  Json offsets = Json::array();
  Json values = Json::array();
  Json texts = Json::array();
  Json tops = Json::array();
  for (const ScoredToken& scored : tokens) {
    const std::string text = token_text(tokenizer_, scored.token.id, options_.tokens_as_ids);
    offsets.push_back(scored.text_offset);
    values.push_back(static_cast<double>(floored(scored.token.logprob)));
    texts.push_back(text);
    // A map: tokens of the same text collapse. The sampled token is in it whatever its rank.
    Json top = Json::object({{text, static_cast<double>(floored(scored.token.logprob))}});
    for (const TokenLogprob& other : scored.top) {
      const std::string key = token_text(tokenizer_, other.id, options_.tokens_as_ids);
      if (top.find(key) == nullptr) top.set(key, static_cast<double>(floored(other.logprob)));
    }
    tops.push_back(std::move(top));
  }
  return Json::object({{"text_offset", std::move(offsets)},
                       {"token_logprobs", std::move(values)},
                       {"tokens", std::move(texts)},
                       {"top_logprobs", std::move(tops)}});
}

Json CompletionReply::whole(const std::vector<WholeChoice>& choices, const Usage& usage,
                            std::vector<Json> prompt_token_ids) const {
  Json list = Json::array();
  for (std::size_t i = 0; i < choices.size(); ++i) {
    const WholeChoice& choice = choices[i];
    list.push_back(
        Json::object({{"index", i},
                      {"text", choice.content},
                      {"logprobs", logprobs(choice.tokens)},
                      {"finish_reason", choice.end.finish_reason},
                      {"stop_reason", choice.end.stop_reason},
                      {"token_ids", options_.token_ids ? scored_ids_body(choice.tokens) : Json()},
                      {"prompt_logprobs", Json()},
                      {"prompt_token_ids", std::move(prompt_token_ids[i])},
                      {"routed_experts", Json()}}));
  }
  Json result = body(std::move(list));
  result.set("service_tier", Json());
  result.set("system_fingerprint", head_.fingerprint);
  result.set("usage", usage_body(usage));
  result.set("kv_transfer_params", Json());
  return result;
}

std::string CompletionReply::delta_chunk(std::size_t index, const ChoiceDelta& delta,
                                         const std::optional<Usage>& usage,
                                         Json prompt_token_ids) const {
  Json scores = logprobs(delta.tokens);
  Json ids = options_.token_ids ? scored_ids_body(delta.tokens) : Json();
  if (delta.content.empty() && !delta.end && scores.is_null() && ids.is_null() &&
      prompt_token_ids.is_null()) {
    return {};
  }
  Json result = body(Json::array(
      {Json::object({{"index", index},
                     {"text", delta.content},
                     {"logprobs", std::move(scores)},
                     {"finish_reason", delta.end ? Json(delta.end->finish_reason) : Json()},
                     {"stop_reason", delta.end ? delta.end->stop_reason : Json()},
                     {"prompt_token_ids", std::move(prompt_token_ids)},
                     {"token_ids", std::move(ids)}})}));
  if (usage) result.set("usage", usage_body(*usage));
  return sse_event(result);
}

std::string CompletionReply::usage_chunk(const Usage& usage) const {
  Json result = body(Json::array());
  result.set("usage", usage_body(usage));
  result.set("system_fingerprint", head_.fingerprint);
  return sse_event(result);
}

}  // namespace gem8::openai
