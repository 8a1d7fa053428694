#include "formats/companion_configs.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "formats/config_parts.h"
#include "formats/model_config.h"
#include "foundation/json/fields.h"
#include "foundation/mapped_file.h"

namespace gem8 {
namespace {

constexpr std::int64_t kMaxInt = 0x7fffffff;
constexpr std::size_t kMaxFileBytes = std::size_t{64} << 20;

Status check_object(const Json& value, std::string_view name) {
  if (value.is_object()) return {};
  return fail(Code::kCorrupt, "{}: found {}, wanted an object", name, value.kind_name());
}

Status read_number(std::optional<double>& out, const JsonFields& fields, std::string_view name,
                   std::string_view key, double low, double high) {
  if (!fields.has(key)) return {};
  GEM8_TRY(const double value, fields.optional_number(key, 0.0));
  if (!(value >= low && value <= high)) {
    return fail(Code::kCorrupt, "{}: '{}' is {}, wanted {} to {}", name, key, value, low, high);
  }
  out = value;
  return {};
}

Status read_integer(std::optional<int>& out, const JsonFields& fields, std::string_view key,
                    std::int64_t low) {
  if (!fields.has(key)) return {};
  GEM8_TRY(const std::int64_t value, fields.integer(key, low, kMaxInt));
  out = static_cast<int>(value);
  return {};
}

/// A special token: a string, or the object that older files store with its "content".
Status read_token(std::optional<std::string>& out, const JsonFields& fields, const Json& value,
                  std::string_view key) {
  const Json* token = value.find(key);
  if (token == nullptr || token->is_null()) return {};
  if (token->is_object()) {
    const JsonFields token_fields(*token, "tokenizer_config.json: " + std::string(key));
    GEM8_TRY(out, token_fields.string("content"));
    return {};
  }
  GEM8_TRY(out, fields.string(key));
  return {};
}

/// One template, or a list of {"name", "template"} of which "default" counts.
Status read_template(std::optional<std::string>& out, const Json& value) {
  constexpr std::string_view kName = "tokenizer_config.json: chat_template";
  const Json* found = value.find("chat_template");
  if (found == nullptr || found->is_null()) return {};
  if (found->is_string()) {
    out = found->as_string();
    return {};
  }
  if (!found->is_array()) {
    return fail(Code::kCorrupt, "{}: found {}, wanted a string or a list of named templates", kName,
                found->kind_name());
  }
  for (const Json& item : found->as_array()) {
    const JsonFields fields(item, kName);
    GEM8_TRY(const std::string name, fields.string("name"));
    GEM8_TRY(std::string text, fields.string("template"));
    if (name == "default") out = std::move(text);
  }
  return {};
}

Status read_numbers(std::vector<double>& out, const JsonFields& fields, std::string_view name,
                    std::string_view key) {
  GEM8_TRY(const Json* list, fields.optional_array(key));
  if (list == nullptr) return {};
  for (const Json& item : list->as_array()) {
    if (!item.is_number() || !std::isfinite(item.as_double())) {
      return fail(Code::kCorrupt, "{}: '{}': found {}, wanted finite numbers", name, key,
                  item.kind_name());
    }
    out.push_back(item.as_double());
  }
  if (out.size() != 3)
    return fail(Code::kCorrupt, "{}: '{}' has {} entries, wanted 3", name, key, out.size());
  return {};
}

/// DIR/NAME as JSON; nullopt when it is not there.
Result<std::optional<Json>> read_json_file(const std::filesystem::path& path) {
  const Result<std::string> text = read_text_file(path, kMaxFileBytes);
  if (!text && text.error().code == Code::kNotFound) return std::optional<Json>();
  if (!text) return std::unexpected(text.error());
  Result<Json> value = parse_json(*text);
  if (!value) return fail_in(path.string(), std::move(value).error());
  return std::optional<Json>(std::move(*value));
}

bool is_soft_token_budget(std::int64_t tokens) {
  constexpr std::array<std::int64_t, 5> kBudgets = {70, 140, 280, 560, 1120};
  return std::ranges::find(kBudgets, tokens) != kBudgets.end();
}

}  // namespace

Result<GenerationConfig> parse_generation_config(const Json& value) {
  constexpr std::string_view kName = "generation_config.json";
  GEM8_RETURN_IF_ERROR(check_object(value, kName));
  const JsonFields fields(value, kName);
  GenerationConfig config;
  GEM8_TRY(config.eos_token_ids, internal::token_id_list(fields, value, "eos_token_id", kName));
  GEM8_TRY(config.suppress_tokens,
           internal::token_id_list(fields, value, "suppress_tokens", kName));
  GEM8_RETURN_IF_ERROR(read_integer(config.bos_token_id, fields, "bos_token_id", 0));
  GEM8_RETURN_IF_ERROR(read_integer(config.pad_token_id, fields, "pad_token_id", 0));
  GEM8_RETURN_IF_ERROR(read_integer(config.top_k, fields, "top_k", -1));
  GEM8_RETURN_IF_ERROR(read_integer(config.max_new_tokens, fields, "max_new_tokens", 1));
  GEM8_RETURN_IF_ERROR(read_number(config.temperature, fields, kName, "temperature", 0.0, 100.0));
  GEM8_RETURN_IF_ERROR(read_number(config.top_p, fields, kName, "top_p", 1e-9, 1.0));
  GEM8_RETURN_IF_ERROR(read_number(config.min_p, fields, kName, "min_p", 0.0, 1.0));
  GEM8_RETURN_IF_ERROR(
      read_number(config.repetition_penalty, fields, kName, "repetition_penalty", 1e-6, 100.0));
  if (fields.has("do_sample")) {
    GEM8_TRY(config.do_sample, fields.optional_boolean("do_sample", true));
  }
  return config;
}

Result<TokenizerConfig> parse_tokenizer_config(Json value) {
  constexpr std::string_view kName = "tokenizer_config.json";
  GEM8_RETURN_IF_ERROR(check_object(value, kName));
  TokenizerConfig config;
  const JsonFields fields(value, kName);
  GEM8_TRY(config.tokenizer_class, fields.optional_string("tokenizer_class", ""));
  GEM8_RETURN_IF_ERROR(read_token(config.bos_token, fields, value, "bos_token"));
  GEM8_RETURN_IF_ERROR(read_token(config.eos_token, fields, value, "eos_token"));
  GEM8_RETURN_IF_ERROR(read_token(config.pad_token, fields, value, "pad_token"));
  GEM8_RETURN_IF_ERROR(read_token(config.unk_token, fields, value, "unk_token"));
  GEM8_TRY(config.add_bos_token, fields.optional_boolean("add_bos_token", true));
  GEM8_RETURN_IF_ERROR(read_template(config.chat_template, value));
  // transformers writes int(1e30) for "no limit".
  GEM8_TRY(const double max_length, fields.optional_number("model_max_length", 1e30));
  if (!(max_length >= 1.0)) {
    return fail(Code::kCorrupt, "{}: 'model_max_length' is {}, wanted at least 1", kName,
                max_length);
  }
  if (max_length < 1e15) config.model_max_length = static_cast<std::int64_t>(max_length);
  config.raw = std::move(value);
  return config;
}

Result<ImageProcessorConfig> parse_image_processor_config(const Json& value) {
  constexpr std::string_view kName = "image processor config";
  GEM8_RETURN_IF_ERROR(check_object(value, kName));
  const JsonFields outer(value, kName);
  GEM8_TRY(const Json* nested, outer.optional_object("image_processor"));
  const JsonFields fields(nested != nullptr ? *nested : value, kName);
  ImageProcessorConfig config;
  GEM8_TRY(const std::int64_t patch, fields.optional_integer("patch_size", 16, 1, 1024));
  GEM8_TRY(const std::int64_t pooling, fields.optional_integer("pooling_kernel_size", 3, 1, 64));
  GEM8_TRY(const std::int64_t tokens, fields.optional_integer("max_soft_tokens", 280, 1, 65536));
  GEM8_TRY(const std::int64_t resample, fields.optional_integer("resample", 3, 0, 5));
  if (!is_soft_token_budget(tokens)) {
    return fail(Code::kCorrupt, "{}: 'max_soft_tokens' is {}, wanted 70, 140, 280, 560 or 1120",
                kName, tokens);
  }
  config.patch_size = static_cast<int>(patch);
  config.pooling_kernel_size = static_cast<int>(pooling);
  config.max_soft_tokens = static_cast<int>(tokens);
  config.resample = static_cast<int>(resample);
  GEM8_TRY(config.do_convert_rgb, fields.optional_boolean("do_convert_rgb", true));
  GEM8_TRY(config.do_resize, fields.optional_boolean("do_resize", true));
  GEM8_TRY(config.do_rescale, fields.optional_boolean("do_rescale", true));
  GEM8_TRY(config.do_normalize, fields.optional_boolean("do_normalize", false));
  GEM8_TRY(config.rescale_factor, fields.optional_number("rescale_factor", 1.0 / 255.0));
  if (!(config.rescale_factor > 0.0 && std::isfinite(config.rescale_factor))) {
    return fail(Code::kCorrupt, "{}: 'rescale_factor' is {}, wanted a positive number", kName,
                config.rescale_factor);
  }
  GEM8_RETURN_IF_ERROR(read_numbers(config.image_mean, fields, kName, "image_mean"));
  GEM8_RETURN_IF_ERROR(read_numbers(config.image_std, fields, kName, "image_std"));
  return config;
}

Result<GenerationConfig> read_generation_config(const std::filesystem::path& dir) {
  GEM8_TRY(const std::optional<Json> value, read_json_file(dir / "generation_config.json"));
  if (!value) return GenerationConfig{};
  Result<GenerationConfig> config = parse_generation_config(*value);
  if (!config) return fail_in(dir.string(), std::move(config).error());
  return config;
}

Result<TokenizerConfig> read_tokenizer_config(const std::filesystem::path& dir) {
  GEM8_TRY(std::optional<Json> value, read_json_file(dir / "tokenizer_config.json"));
  if (!value) return TokenizerConfig{};
  Result<TokenizerConfig> config = parse_tokenizer_config(std::move(*value));
  if (!config) return fail_in(dir.string(), std::move(config).error());
  return config;
}

Result<ImageProcessorConfig> read_image_processor_config(const std::filesystem::path& dir) {
  std::filesystem::path path = dir / "processor_config.json";
  GEM8_TRY(std::optional<Json> value, read_json_file(path));
  if (!value || value->find("image_processor") == nullptr) {
    GEM8_TRY(std::optional<Json> flat, read_json_file(dir / "preprocessor_config.json"));
    if (flat) {
      value = std::move(flat);
      path = dir / "preprocessor_config.json";
    }
  }
  if (!value) return ImageProcessorConfig{};
  Result<ImageProcessorConfig> config = parse_image_processor_config(*value);
  if (!config) return fail_in(path.string(), std::move(config).error());
  return config;
}

Result<int> read_image_soft_tokens(const std::filesystem::path& dir, const ModelConfig& config) {
  std::error_code ignored;
  if (std::filesystem::exists(dir / "processor_config.json", ignored) ||
      std::filesystem::exists(dir / "preprocessor_config.json", ignored)) {
    GEM8_TRY(const ImageProcessorConfig processor, read_image_processor_config(dir));
    return processor.max_soft_tokens;
  }
  const int tokens = config.vision_soft_tokens_per_image;
  if (!is_soft_token_budget(tokens)) {
    return fail(Code::kCorrupt,
                "{}: 'vision_soft_tokens_per_image' is {}, wanted 70, 140, 280, 560 or 1120",
                (dir / "config.json").string(), tokens);
  }
  return tokens;
}

}  // namespace gem8
