#include "server/openai/completion_request.h"

#include <algorithm>

#include "server/openai/error.h"

namespace gem8::openai {
namespace {

Result<std::vector<TokenId>> read_ids(const Json& list) {
  std::vector<TokenId> ids;
  for (const Json& item : list.as_array()) {
    const std::optional<std::int64_t> id = item.is_string() ? std::nullopt : lax_integer(item);
    if (!id || *id < INT32_MIN || *id > INT32_MAX)
      return mistyped("prompt", "prompt: a list of ids holds {}", item.kind_name());
    ids.push_back(TokenId{static_cast<std::int32_t>(*id)});
  }
  if (ids.empty()) return bad_field("prompt", "prompt: a list of ids is empty");
  return ids;
}

Result<std::vector<Prompt>> read_prompts(const Fields& fields) {
  const Json* prompt = fields.find("prompt");
  const auto missing = [] {
    return bad_field("prompt", "Either prompt or prompt_embeds must be provided and non-empty.");
  };
  if (prompt == nullptr) return missing();
  if (prompt->is_string()) {
    if (prompt->as_string().empty()) return missing();
    return std::vector<Prompt>{prompt->as_string()};
  }
  if (!prompt->is_array())
    return mistyped("prompt", "prompt: found {}, wanted a string, strings, ids or lists of ids",
                    prompt->kind_name());
  const Json::Array& items = prompt->as_array();
  if (items.empty()) return missing();
  if (items.front().is_int()) {
    GEM8_TRY(std::vector<TokenId> ids, read_ids(*prompt));
    return std::vector<Prompt>{std::move(ids)};
  }
  if (items.size() > kMaxAnswers)
    return bad_field("prompt", "prompt: {} prompts, at most {} are allowed", items.size(),
                     kMaxAnswers);
  std::vector<Prompt> prompts;
  for (const Json& item : items) {
    if (item.is_string() && !item.as_string().empty()) {
      prompts.emplace_back(item.as_string());
    } else if (item.is_array()) {
      GEM8_TRY(std::vector<TokenId> ids, read_ids(item));
      prompts.emplace_back(std::move(ids));
    } else {
      return mistyped("prompt",
                      "prompt: found {} in the list, wanted non-empty strings or lists of ids",
                      item.kind_name());
    }
  }
  return prompts;
}

}  // namespace

Result<CompletionRequest> parse_completion_request(std::string_view text,
                                                   const GenerationDefaults& defaults) {
  GEM8_TRY(const Json body, parse_json(text));
  if (!body.is_object())
    return mistyped("", "the body is {}, wanted a JSON object", body.kind_name());
  const Fields fields(body);
  CompletionRequest request;
  GEM8_TRY(request.prompts, read_prompts(fields));
  if (const Json* suffix = fields.find("suffix");
      suffix != nullptr && !(suffix->is_string() && suffix->as_string().empty())) {
    return bad_field("suffix", "suffix is not currently supported");
  }
  GEM8_TRY(const std::optional<std::int64_t> best_of, fields.integer("best_of"));
  if (best_of && *best_of != 1)
    return bad_field("best_of", "best_of is not supported: only 1 is accepted, got {}", *best_of);
  GEM8_TRY(request.generation, parse_generation(fields, defaults));
  Generation& generation = request.generation;
  const auto n_prompts = static_cast<std::int64_t>(request.prompts.size());
  if (n_prompts * generation.n > static_cast<std::int64_t>(kMaxAnswers)) {
    return bad_field("n", "{} prompts with n {}: at most {} answers are given to a request",
                     n_prompts, generation.n, kMaxAnswers);
  }

  GEM8_TRY(const std::optional<bool> echo, fields.boolean("echo"));
  request.echo = echo.value_or(false);
  GEM8_TRY(const std::optional<bool> add_special, fields.boolean("add_special_tokens"));
  request.add_special_tokens = add_special.value_or(true);
  GEM8_TRY(const std::optional<std::int64_t> max_tokens, fields.integer("max_tokens"));
  generation.max_tokens = max_tokens.value_or(kDefaultCompletionTokens);
  if (*generation.max_tokens < (request.echo ? 0 : 1)) {
    return bad_field("max_tokens", "max_tokens must be at least 1, got {}.",
                     *generation.max_tokens);
  }

  apply_token_limit(defaults, generation);

  const Json* logprobs = fields.find("logprobs");
  if (logprobs != nullptr && logprobs->is_bool())
    return mistyped("logprobs", "logprobs: found boolean, wanted an integer");
  GEM8_TRY(const std::optional<std::int64_t> n_logprobs, fields.integer("logprobs"));
  if (n_logprobs) {
    if (*n_logprobs < 0)
      return bad_field("logprobs", "logprobs must be 0 to {}, got {}", kMaxLogprobs, *n_logprobs);
    if (*n_logprobs > kMaxLogprobs) {
      return bad_field("logprobs",
                       "Requested sample logprobs of {}, which is greater than max allowed: {}",
                       *n_logprobs, kMaxLogprobs);
    }
    if (request.echo) {
      return std::unexpected(Error{
          Code::kUnsupported, "'echo' together with 'logprobs' is not supported yet", "logprobs"});
    }
    generation.sampling.n_logprobs = static_cast<std::int32_t>(*n_logprobs);
  }
  GEM8_TRY(const std::optional<std::string> model, fields.string("model"));
  request.model = model.value_or("");
  GEM8_TRY(const std::optional<std::string> request_id, fields.string("request_id"));
  request.request_id = request_id.value_or("");
  return request;
}

}  // namespace gem8::openai
