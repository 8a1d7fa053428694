#include "server/openai/generation.h"

#include <algorithm>
#include <charconv>

#include "server/openai/error.h"

namespace gem8::openai {
namespace {

bool is_empty(const Json& value) {
  return (value.is_bool() && !value.as_bool()) || (value.is_array() && value.as_array().empty()) ||
         (value.is_object() && value.as_object().empty()) ||
         (value.is_string() && value.as_string().empty());
}

/// Narrow numbers keep their absurdity for the engine's range check: 1e300 becomes infinity, which
/// no range holds.
Status read_number(const Fields& fields, std::string_view key, double fallback, float& to) {
  GEM8_TRY(const std::optional<double> value, fields.number(key));
  to = static_cast<float>(value.value_or(fallback));
  return {};
}

Status read_flag(const Fields& fields, std::string_view key, bool& to) {
  GEM8_TRY(const std::optional<bool> value, fields.boolean(key));
  to = value.value_or(to);
  return {};
}

Result<std::vector<std::string>> read_stop(const Fields& fields) {
  std::vector<std::string> stops;
  const Json* stop = fields.find("stop");
  if (stop == nullptr) return stops;
  if (stop->is_string()) {
    stops.push_back(stop->as_string());
  } else if (stop->is_array()) {
    for (const Json& item : stop->as_array()) {
      if (!item.is_string())
        return mistyped("stop", "stop: found {} in the list, wanted strings", item.kind_name());
      stops.push_back(item.as_string());
    }
  } else {
    return mistyped("stop", "stop: found {}, wanted a string or a list of strings",
                    stop->kind_name());
  }
  if (stops.size() > kMaxStops)
    return bad_field("stop", "stop: {} strings, at most {} are allowed", stops.size(), kMaxStops);
  if (std::any_of(stops.begin(), stops.end(),
                  [](const std::string& text) { return text.empty(); })) {
    return bad_field("stop", "stop cannot contain an empty string");
  }
  return stops;
}

Result<std::vector<LogitBias>> read_logit_bias(const Fields& fields) {
  std::vector<LogitBias> biases;
  GEM8_TRY(const Json* object, fields.object("logit_bias"));
  if (object == nullptr) return biases;
  for (const JsonMember& member : object->as_object()) {
    std::int32_t token = 0;
    const char* const end = member.key.data() + member.key.size();
    const auto [stop, ec] = std::from_chars(member.key.data(), end, token);
    if (ec != std::errc() || stop != end)
      return bad_field("logit_bias", "logit_bias: key '{}' is not a token id", member.key);
    const std::optional<double> bias = lax_number(member.value);
    if (!bias)
      return mistyped("logit_bias", "logit_bias: the bias of token {} is no number", token);
    biases.push_back({TokenId{token}, static_cast<float>(std::clamp(*bias, -100.0, 100.0))});
  }
  return biases;
}

}  // namespace

Status refuse_unsupported(const Fields& fields, std::initializer_list<std::string_view> keys) {
  for (const std::string_view key : keys) {
    const Json* value = fields.find(key);
    if (value == nullptr || is_empty(*value)) continue;
    return std::unexpected(
        Error{Code::kUnsupported, fmt::format("'{}' is not supported yet", key), std::string(key)});
  }
  return {};
}

void apply_token_limit(const GenerationDefaults& defaults, Generation& generation) {
  if (!defaults.most_new_tokens) return;
  generation.max_tokens = std::min(generation.max_tokens.value_or(*defaults.most_new_tokens),
                                   *defaults.most_new_tokens);
}

Result<Generation> parse_generation(const Fields& fields, const GenerationDefaults& defaults) {
  GEM8_RETURN_IF_ERROR(refuse_unsupported(
      fields, {"use_beam_search", "bad_words", "structured_outputs", "guided_json", "guided_regex",
               "guided_choice", "guided_grammar", "prompt_logprobs", "logprob_token_ids",
               "thinking_token_budget", "repetition_detection", "truncate_prompt_tokens",
               "prompt_embeds"}));
  if (const Json* format = fields.find("response_format")) {
    const Json* type = format->find("type");
    if (type == nullptr || !type->is_string())
      return mistyped("response_format", "response_format: wanted an object with a string 'type'");
    if (type->as_string() != "text") {
      return std::unexpected(
          Error{Code::kUnsupported,
                fmt::format("response_format '{}' is not supported yet: only 'text' is",
                            type->as_string()),
                "response_format"});
    }
  }

  Generation generation;
  SamplingParams& sampling = generation.sampling;
  GEM8_RETURN_IF_ERROR(
      read_number(fields, "temperature", defaults.temperature, sampling.temperature));
  GEM8_RETURN_IF_ERROR(read_number(fields, "top_p", defaults.top_p, sampling.top_p));
  GEM8_RETURN_IF_ERROR(read_number(fields, "min_p", defaults.min_p, sampling.min_p));
  GEM8_RETURN_IF_ERROR(read_number(fields, "repetition_penalty", defaults.repetition_penalty,
                                   sampling.repetition_penalty));
  GEM8_RETURN_IF_ERROR(read_number(fields, "presence_penalty", 0.0, sampling.presence_penalty));
  GEM8_RETURN_IF_ERROR(read_number(fields, "frequency_penalty", 0.0, sampling.frequency_penalty));
  GEM8_TRY(const std::optional<std::int64_t> top_k, fields.integer("top_k"));
  sampling.top_k = top_k.value_or(defaults.top_k);
  GEM8_TRY(const std::optional<std::int64_t> seed, fields.integer("seed"));
  generation.has_seed = seed && *seed != -1;
  if (generation.has_seed) sampling.seed = static_cast<std::uint64_t>(*seed);
  GEM8_TRY(sampling.logit_bias, read_logit_bias(fields));
  GEM8_TRY(sampling.allowed_token_ids, fields.token_ids("allowed_token_ids"));
  if (const Json* allowed = fields.find("allowed_token_ids");
      allowed != nullptr && sampling.allowed_token_ids.empty()) {
    return bad_field("allowed_token_ids", "allowed_token_ids must not be empty");
  }

  GEM8_TRY(const std::optional<std::int64_t> n, fields.integer("n"));
  generation.n = n.value_or(1);
  if (generation.n < 1 || generation.n > kMaxChoices)
    return bad_field("n", "n must be from 1 to {}, got {}", kMaxChoices, generation.n);
  if (generation.n > 1 && sampling.greedy())
    return bad_field("n", "n must be 1 when using greedy sampling, got {}", generation.n);

  GEM8_TRY(const std::optional<std::int64_t> min_tokens, fields.integer("min_tokens"));
  generation.min_tokens = min_tokens.value_or(0);
  GEM8_TRY(generation.stop, read_stop(fields));
  GEM8_TRY(generation.stop_token_ids, fields.token_ids("stop_token_ids"));
  GEM8_RETURN_IF_ERROR(
      read_flag(fields, "include_stop_str_in_output", generation.include_stop_in_output));
  GEM8_RETURN_IF_ERROR(read_flag(fields, "ignore_eos", generation.ignore_eos));
  GEM8_RETURN_IF_ERROR(read_flag(fields, "skip_special_tokens", generation.skip_special_tokens));
  GEM8_RETURN_IF_ERROR(read_flag(fields, "return_token_ids", generation.return_token_ids));
  GEM8_RETURN_IF_ERROR(read_flag(fields, "return_tokens_as_token_ids", generation.tokens_as_ids));
  GEM8_RETURN_IF_ERROR(read_flag(fields, "stream", generation.stream));
  GEM8_TRY(const Json* stream_options, fields.object("stream_options"));
  if (stream_options != nullptr) {
    if (!generation.stream)
      return bad_field("stream_options", "Stream options can only be defined when `stream=True`.");
    const Fields options(*stream_options);
    GEM8_RETURN_IF_ERROR(read_flag(options, "include_usage", generation.include_usage));
    GEM8_RETURN_IF_ERROR(read_flag(options, "continuous_usage_stats", generation.continuous_usage));
  }
  return generation;
}

}  // namespace gem8::openai
