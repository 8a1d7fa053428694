#pragma once

#include "formats/model_config.h"
#include "foundation/json/fields.h"

/// The parts of parse_model_config(), for its sources only.
namespace gem8::internal {

/// An integer or a list of them, each in [0, 2^31): eos_token_id. Empty when absent or null.
Result<std::vector<int>> token_id_list(const JsonFields& fields, const Json& object,
                                       std::string_view key, std::string_view name);

/// `value` is text_config, or the whole config of a text-only class.
/// Source: gemma4-text configuration of transformers 5.5 to 5.19, class Gemma4TextConfig.
Result<TextConfig> parse_text_config(const Json& value, std::string_view name, bool unified);

/// `value` is vision_config with model_type gemma4_vision.
Result<VisionConfig> parse_vision_config(const Json& value);

}  // namespace gem8::internal
