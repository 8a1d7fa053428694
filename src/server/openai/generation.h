#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "engine/sampling_params.h"
#include "foundation/json/json.h"
#include "foundation/result.h"
#include "server/openai/fields.h"

namespace gem8::openai {

/// What a request may leave to the server: generation_config.json of the model.
struct GenerationDefaults {
  double temperature = 1.0;
  double top_p = 1.0;
  double min_p = 0.0;
  std::int64_t top_k = 0;
  double repetition_penalty = 1.0;
  std::optional<std::int64_t> max_new_tokens;
  std::optional<std::int64_t> most_new_tokens;  ///< what a request may ask for; more is cut to it
};

/// How to generate: the fields that chat and plain completions share.
struct Generation {
  SamplingParams sampling;  ///< without n_logprobs; its seed is only valid with has_seed
  bool has_seed = false;
  std::int64_t n = 1;
  std::optional<std::int64_t> max_tokens;
  std::string max_tokens_field = "max_tokens";  ///< the name it was sent under
  std::int64_t min_tokens = 0;
  std::vector<std::string> stop;
  std::vector<TokenId> stop_token_ids;
  bool include_stop_in_output = false;
  bool ignore_eos = false;
  bool skip_special_tokens = true;
  bool stream = false;
  bool include_usage = false;
  bool continuous_usage = false;
  bool return_token_ids = false;
  bool tokens_as_ids = false;  ///< return_tokens_as_token_ids
};

/// Most stop strings of a request. OpenAI's limit is 4; evaluation harnesses send more.
inline constexpr std::size_t kMaxStops = 64;
/// Most answers of a request.
inline constexpr std::int64_t kMaxChoices = 128;

/// Reads and checks them. Errors: kCorrupt (mistyped), kInvalidArgument (out of range or
/// contradicting), kUnsupported (known to vLLM, not yet to gem8); the context is the field. Ranges
/// of sampling parameters are the engine's business, except for what cannot be said in its types.
Result<Generation> parse_generation(const Fields& fields, const GenerationDefaults& defaults);

/// Brings max_tokens, as the request has it or not, within what the server allows.
void apply_token_limit(const GenerationDefaults& defaults, Generation& generation);

/// A field that would change the answer but is not implemented: kUnsupported when it holds anything
/// but null, false or nothing.
Status refuse_unsupported(const Fields& fields, std::initializer_list<std::string_view> keys);

}  // namespace gem8::openai
