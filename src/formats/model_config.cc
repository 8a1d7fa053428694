#include "formats/model_config.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <array>

#include "formats/config_parts.h"
#include "foundation/json/fields.h"
#include "foundation/mapped_file.h"

namespace gem8 {
namespace {

constexpr std::string_view kName = "config.json";
constexpr std::array<std::string_view, 4> kModelTypes = {"gemma4", "gemma4_unified", "gemma4_text",
                                                         "gemma4_unified_text"};
constexpr std::array<std::string_view, 4> kArchitectures = {
    "Gemma4ForConditionalGeneration", "Gemma4ForCausalLM", "Gemma4UnifiedForConditionalGeneration",
    "Gemma4UnifiedForCausalLM"};
constexpr std::size_t kMaxConfigBytes = std::size_t{64} << 20;

Status read_family(const JsonFields& fields, ModelConfig& config) {
  GEM8_TRY(config.model_type, fields.string("model_type"));
  if (std::ranges::find(kModelTypes, config.model_type) == kModelTypes.end()) {
    return fail(Code::kUnsupported, "{}: model_type '{}' is not one gem8 runs; it runs {}", kName,
                config.model_type, fmt::join(kModelTypes, ", "));
  }
  config.unified = config.model_type.starts_with("gemma4_unified");
  config.text_only_class = config.model_type.ends_with("_text");
  GEM8_TRY(const Json* architectures, fields.optional_array("architectures"));
  if (architectures == nullptr) return {};
  for (const Json& item : architectures->as_array()) {
    if (!item.is_string()) {
      return fail(Code::kCorrupt, "{}: 'architectures': found an entry of type {}, wanted strings",
                  kName, item.kind_name());
    }
    config.architectures.push_back(item.as_string());
  }
  const auto known = [](const std::string& name) {
    return std::ranges::find(kArchitectures, name) != kArchitectures.end();
  };
  if (!config.architectures.empty() && std::ranges::none_of(config.architectures, known)) {
    return fail(Code::kUnsupported, "{}: architecture '{}' is not one gem8 runs; it runs {}", kName,
                config.architectures.front(), fmt::join(kArchitectures, ", "));
  }
  return {};
}

Status read_vision(const JsonFields& fields, ModelConfig& config) {
  GEM8_TRY(const Json* vision, fields.optional_object("vision_config"));
  if (vision == nullptr || config.unified) return {};  // the unified family has no tower
  const JsonFields vision_fields(*vision, "config.json: vision_config");
  GEM8_TRY(const std::string type, vision_fields.optional_string("model_type", "gemma4_vision"));
  if (type != "gemma4_vision") {
    return fail(Code::kUnsupported, "{}: vision_config: model_type '{}', gem8 knows gemma4_vision",
                kName, type);
  }
  GEM8_TRY(config.vision, internal::parse_vision_config(*vision));
  return {};
}

/// The released ids are the class's defaults.
Status read_token_ids(const JsonFields& fields, ModelConfig& config) {
  const auto read = [&](std::optional<int>& out, std::string_view key, int released) -> Status {
    const Json* value = config.raw.find(key);
    if (value == nullptr) {
      if (released < config.text.vocab) out = released;
      return {};
    }
    if (value->is_null()) return {};
    GEM8_TRY(const std::int64_t id, fields.integer(key, 0, config.text.vocab - 1));
    out = static_cast<int>(id);
    return {};
  };
  GEM8_RETURN_IF_ERROR(read(config.tokens.image, "image_token_id", 258880));
  GEM8_RETURN_IF_ERROR(read(config.tokens.boi, "boi_token_id", 255999));
  GEM8_RETURN_IF_ERROR(read(config.tokens.eoi, "eoi_token_id", 258882));
  GEM8_RETURN_IF_ERROR(read(config.tokens.audio, "audio_token_id", 258881));
  GEM8_RETURN_IF_ERROR(read(config.tokens.boa, "boa_token_id", 256000));
  GEM8_RETURN_IF_ERROR(read(config.tokens.video, "video_token_id", 258884));
  // One token under two names; the newer one is the class's own.
  return read(config.tokens.eoa, fields.has("eoa_token_index") ? "eoa_token_index" : "eoa_token_id",
              258883);
}

Status read_multimodal(const JsonFields& fields, ModelConfig& config) {
  GEM8_TRY(const Json* text, fields.object("text_config"));
  GEM8_TRY(config.text,
           internal::parse_text_config(*text, "config.json: text_config", config.unified));
  GEM8_RETURN_IF_ERROR(read_vision(fields, config));
  GEM8_TRY(const Json* audio, fields.optional_object("audio_config"));
  config.has_audio = audio != nullptr;
  GEM8_RETURN_IF_ERROR(read_token_ids(fields, config));
  GEM8_TRY(const std::int64_t soft,
           fields.optional_integer("vision_soft_tokens_per_image", 280, 1, 65536));
  config.vision_soft_tokens_per_image = static_cast<int>(soft);
  return {};
}

Status read_quantization(ModelConfig& config) {
  const auto present = [](const Json* value) {
    return value != nullptr && !value->is_null() ? value : nullptr;
  };
  const Json* top = present(config.raw.find("quantization_config"));
  const Json* text = config.raw.find("text_config");
  const Json* nested = text == nullptr ? nullptr : present(text->find("quantization_config"));
  const Json* compression = present(config.raw.find("compression_config"));
  config.quantization_in_two_places = top != nullptr && nested != nullptr;
  const Json* found = top != nullptr ? top : nested != nullptr ? nested : compression;
  if (found == nullptr) return {};
  GEM8_TRY(config.quantization, parse_quantization_config(*found));
  return {};
}

}  // namespace

Result<ModelConfig> parse_model_config(Json raw) {
  if (!raw.is_object())
    return fail(Code::kCorrupt, "{}: found {}, wanted an object", kName, raw.kind_name());
  ModelConfig config;
  config.raw = std::move(raw);
  const JsonFields fields(config.raw, kName);
  GEM8_RETURN_IF_ERROR(read_family(fields, config));
  if (config.text_only_class) {
    GEM8_TRY(config.text, internal::parse_text_config(config.raw, kName, config.unified));
  } else {
    GEM8_RETURN_IF_ERROR(read_multimodal(fields, config));
  }
  GEM8_TRY(config.eos_token_ids,
           internal::token_id_list(fields, config.raw, "eos_token_id", kName));
  if (config.eos_token_ids.empty()) config.eos_token_ids = config.text.eos_token_ids;
  GEM8_TRY(config.tie_word_embeddings,
           fields.optional_boolean("tie_word_embeddings", config.text.tie_word_embeddings));
  config.text.tie_word_embeddings = config.tie_word_embeddings;
  GEM8_RETURN_IF_ERROR(read_quantization(config));
  return config;
}

Result<ModelConfig> read_model_config(const std::filesystem::path& dir) {
  GEM8_TRY(const std::string text, read_text_file(dir / "config.json", kMaxConfigBytes));
  Result<Json> raw = parse_json(text, {.max_bytes = kMaxConfigBytes});
  if (!raw) return fail_in((dir / "config.json").string(), std::move(raw).error());
  Result<ModelConfig> config = parse_model_config(std::move(*raw));
  if (!config) return fail_in(dir.string(), std::move(config).error());
  if (!config->quantization) {
    // ModelOpt may leave its description in a file of its own.
    const std::filesystem::path path = dir / "hf_quant_config.json";
    Result<std::string> modelopt = read_text_file(path, kMaxConfigBytes);
    if (modelopt) {
      Result<Json> value = parse_json(*modelopt);
      if (!value) return fail_in(path.string(), std::move(value).error());
      Result<QuantizationConfig> quantization = parse_quantization_config(*value);
      if (!quantization) return fail_in(path.string(), std::move(quantization).error());
      config->quantization = std::move(*quantization);
    }
  }
  return config;
}

}  // namespace gem8
