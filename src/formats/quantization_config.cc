#include "formats/quantization_config.h"

#include "foundation/json/fields.h"

namespace gem8 {
namespace {

Result<std::vector<std::string>> string_list(const JsonFields& fields, std::string_view key) {
  GEM8_TRY(const Json* list, fields.optional_array(key));
  std::vector<std::string> strings;
  if (list == nullptr) return strings;
  for (const Json& item : list->as_array()) {
    if (!item.is_string()) {
      return fail(Code::kCorrupt,
                  "quantization_config: '{}': found an entry of type {}, wanted strings", key,
                  item.kind_name());
    }
    strings.push_back(item.as_string());
  }
  return strings;
}

/// The first of the lists that has entries, as vLLM reads alternatives.
Result<std::vector<std::string>> first_list(const JsonFields& fields,
                                            std::initializer_list<std::string_view> keys) {
  for (const std::string_view key : keys) {
    GEM8_TRY(std::vector<std::string> strings, string_list(fields, key));
    if (!strings.empty()) return strings;
  }
  return std::vector<std::string>{};
}

Result<std::optional<QuantArgs>> read_args(const JsonFields& group, std::string_view key) {
  GEM8_TRY(const Json* object, group.optional_object(key));
  if (object == nullptr) return std::optional<QuantArgs>();
  const JsonFields fields(*object, std::string("quantization_config: ") + std::string(key));
  QuantArgs args;
  GEM8_TRY(const std::int64_t bits, fields.optional_integer("num_bits", 8, 1, 64));
  args.num_bits = static_cast<int>(bits);
  GEM8_TRY(args.type, fields.optional_string("type", "int"));
  GEM8_TRY(args.strategy, fields.optional_string("strategy", "tensor"));
  GEM8_TRY(args.symmetric, fields.optional_boolean("symmetric", true));
  // "dynamic" may also be the string "local" (per-group scales made while running).
  const Json* dynamic = object->find("dynamic");
  if (dynamic != nullptr && dynamic->is_string()) {
    args.dynamic = true;
  } else {
    GEM8_TRY(args.dynamic, fields.optional_boolean("dynamic", false));
  }
  return args;
}

Status read_groups(const JsonFields& fields, QuantizationConfig& config) {
  GEM8_TRY(const Json* groups, fields.optional_object("config_groups"));
  if (groups == nullptr) return {};
  for (const JsonMember& member : groups->as_object()) {
    if (!member.value.is_object()) {
      return fail(Code::kCorrupt,
                  "quantization_config: config_groups '{}': found {}, wanted an object", member.key,
                  member.value.kind_name());
    }
    const std::string name = "quantization_config: config_groups: " + member.key;
    const JsonFields group_fields(member.value, name);
    QuantGroup group{.name = member.key};
    GEM8_TRY(group.targets, string_list(group_fields, "targets"));
    GEM8_TRY(group.weights, read_args(group_fields, "weights"));
    GEM8_TRY(group.input_activations, read_args(group_fields, "input_activations"));
    config.groups.push_back(std::move(group));
  }
  if (!config.groups.empty()) {
    const std::optional<QuantArgs>& inputs = config.groups.front().input_activations;
    config.activations =
        inputs && !inputs->dynamic ? ActivationScheme::kStatic : ActivationScheme::kDynamic;
  }
  return {};
}

Status read_fp8(const JsonFields& fields, QuantizationConfig& config) {
  GEM8_TRY(config.activation_name, fields.optional_string("activation_scheme", ""));
  if (config.activation_name == "static") config.activations = ActivationScheme::kStatic;
  if (config.activation_name == "dynamic") config.activations = ActivationScheme::kDynamic;
  GEM8_TRY(config.ignored, first_list(fields, {"ignored_layers", "modules_to_not_convert"}));
  return {};
}

Status read_modelopt(const JsonFields& fields, const Json& value, QuantizationConfig& config) {
  // hf_quant_config.json nests what config.json has flat.
  GEM8_TRY(const Json* nested, fields.optional_object("quantization"));
  const JsonFields inner(nested != nullptr ? *nested : value, "quantization_config");
  GEM8_TRY(config.format, inner.optional_string("quant_algo", ""));
  GEM8_TRY(config.ignored, first_list(inner, {"exclude_modules", "ignore"}));
  config.has_kv_cache_scheme = config.has_kv_cache_scheme || inner.has("kv_cache_quant_algo");
  config.activations = ActivationScheme::kStatic;
  return read_groups(inner, config);
}

}  // namespace

Result<QuantizationConfig> parse_quantization_config(const Json& value) {
  if (!value.is_object()) {
    return fail(Code::kCorrupt, "quantization_config: found {}, wanted an object",
                value.kind_name());
  }
  const JsonFields fields(value, "quantization_config");
  QuantizationConfig config;
  config.raw = value;
  GEM8_TRY(const Json* producer, fields.optional_object("producer"));
  const bool is_hf_quant_config = producer != nullptr && value.find("quantization") != nullptr;
  if (is_hf_quant_config) {
    config.method_name = "modelopt";
  } else {
    GEM8_TRY(config.method_name, fields.string("quant_method"));
  }
  config.method = config.method_name == "fp8"                  ? QuantMethod::kFp8
                  : config.method_name == "compressed-tensors" ? QuantMethod::kCompressedTensors
                  : std::string_view(config.method_name).starts_with("modelopt")
                      ? QuantMethod::kModelOpt
                      : QuantMethod::kUnknown;
  config.has_weight_block_size = fields.has("weight_block_size");
  config.has_kv_cache_scheme = fields.has("kv_cache_scheme");
  switch (config.method) {
    case QuantMethod::kFp8:
      GEM8_RETURN_IF_ERROR(read_fp8(fields, config));
      break;
    case QuantMethod::kCompressedTensors: {
      GEM8_TRY(config.format, fields.optional_string("format", ""));
      GEM8_TRY(config.ignored, string_list(fields, "ignore"));
      GEM8_RETURN_IF_ERROR(read_groups(fields, config));
      break;
    }
    case QuantMethod::kModelOpt:
      GEM8_RETURN_IF_ERROR(read_modelopt(fields, value, config));
      break;
    case QuantMethod::kUnknown:
      break;
  }
  return config;
}

Status QuantizationConfig::check_loadable() const {
  constexpr std::string_view kLoads =
      "gem8 loads 'fp8' with one scale per tensor, static or dynamic";
  if (method == QuantMethod::kUnknown) {
    return fail(Code::kUnsupported, "quantization_config: quant_method '{}' is unknown; {}",
                method_name, kLoads);
  }
  if (method != QuantMethod::kFp8) {
    return fail(Code::kUnsupported, "quantization_config: quant_method '{}' is not loaded yet; {}",
                method_name, kLoads);
  }
  if (has_weight_block_size) {
    return fail(Code::kUnsupported,
                "quantization_config: weight_block_size (block-wise scales) is not loaded; {}",
                kLoads);
  }
  if (activations == ActivationScheme::kUnknown) {
    return fail(Code::kUnsupported,
                "quantization_config: activation_scheme '{}', wanted 'static' or 'dynamic'",
                activation_name);
  }
  return {};
}

std::string_view quant_method_name(QuantMethod method) {
  constexpr std::string_view kNames[] = {"fp8", "compressed-tensors", "modelopt", "unknown"};
  return kNames[static_cast<std::size_t>(method)];
}

std::string_view activation_scheme_name(ActivationScheme scheme) {
  constexpr std::string_view kNames[] = {"static", "dynamic", "unknown"};
  return kNames[static_cast<std::size_t>(scheme)];
}

}  // namespace gem8
