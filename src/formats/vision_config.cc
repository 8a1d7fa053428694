#include <cmath>

#include "formats/config_parts.h"

namespace gem8::internal {

Result<VisionConfig> parse_vision_config(const Json& value) {
  constexpr std::int64_t kMaxWidth = std::int64_t{1} << 20;
  constexpr std::string_view kName = "config.json: vision_config";
  const JsonFields fields(value, kName);
  VisionConfig config;
  const auto size = [&](int& out, std::string_view key, std::optional<int> fallback,
                        std::int64_t high) -> Status {
    const Result<std::int64_t> n =
        fallback ? fields.optional_integer(key, *fallback, 1, high) : fields.integer(key, 1, high);
    if (!n) return std::unexpected(n.error());
    out = static_cast<int>(*n);
    return {};
  };
  GEM8_RETURN_IF_ERROR(size(config.hidden, "hidden_size", std::nullopt, kMaxWidth));
  GEM8_RETURN_IF_ERROR(size(config.ffn, "intermediate_size", std::nullopt, kMaxWidth));
  GEM8_RETURN_IF_ERROR(size(config.n_layers, "num_hidden_layers", std::nullopt, 4096));
  GEM8_RETURN_IF_ERROR(size(config.n_heads, "num_attention_heads", std::nullopt, 4096));
  GEM8_RETURN_IF_ERROR(size(config.n_kv_heads, "num_key_value_heads", config.n_heads, 4096));
  if (config.n_kv_heads != config.n_heads) {
    return fail(Code::kUnsupported,
                "{}: {} key-value heads for {} heads, gem8 computes plain multi-head attention",
                kName, config.n_kv_heads, config.n_heads);
  }
  GEM8_RETURN_IF_ERROR(size(config.head_dim, "head_dim", std::nullopt, 16384));
  if (config.head_dim % 4 != 0) {
    return fail(Code::kCorrupt,
                "{}: 'head_dim' is {}, wanted a multiple of 4: two axes of rotated pairs", kName,
                config.head_dim);
  }
  GEM8_RETURN_IF_ERROR(size(config.patch_size, "patch_size", 16, 1024));
  GEM8_RETURN_IF_ERROR(size(config.pooling_kernel_size, "pooling_kernel_size", 3, 64));
  GEM8_RETURN_IF_ERROR(
      size(config.position_embedding_size, "position_embedding_size", 10240, kMaxWidth));
  GEM8_RETURN_IF_ERROR(size(config.default_output_length, "default_output_length", 280, 65536));
  GEM8_TRY(config.use_clipped_linears, fields.optional_boolean("use_clipped_linears", false));
  GEM8_TRY(config.standardize, fields.optional_boolean("standardize", false));
  GEM8_TRY(const bool bias, fields.optional_boolean("attention_bias", false));
  if (bias)
    return fail(Code::kUnsupported, "{}: 'attention_bias' is true, gem8 computes without bias",
                kName);
  GEM8_TRY(const std::string activation,
           fields.optional_string("hidden_activation", "gelu_pytorch_tanh"));
  if (activation != "gelu_pytorch_tanh") {
    return fail(Code::kUnsupported,
                "{}: 'hidden_activation' is '{}', gem8 computes gelu_pytorch_tanh", kName,
                activation);
  }
  GEM8_TRY(const double eps, fields.optional_number("rms_norm_eps", 1e-6));
  if (!(eps > 0.0 && eps < 1.0))
    return fail(Code::kCorrupt, "{}: 'rms_norm_eps' is {}, wanted 0 to 1", kName, eps);
  config.rms_norm_eps = static_cast<float>(eps);
  GEM8_TRY(const Json* rope, fields.optional_object("rope_parameters"));
  if (rope != nullptr) {
    const JsonFields rope_fields(*rope, "config.json: vision_config: rope_parameters");
    GEM8_TRY(const std::string type, rope_fields.optional_string("rope_type", "default"));
    if (type != "default" && type != "axial") {  // two names of one thing, before and since 5.19
      return fail(Code::kUnsupported, "{}: rope_type is '{}', gem8 knows default and axial", kName,
                  type);
    }
    GEM8_TRY(config.rope_theta, rope_fields.optional_number("rope_theta", 100.0));
    if (!(config.rope_theta > 0.0 && std::isfinite(config.rope_theta))) {
      return fail(Code::kCorrupt, "{}: 'rope_theta' is {}, wanted a positive number", kName,
                  config.rope_theta);
    }
  }
  return config;
}

}  // namespace gem8::internal
