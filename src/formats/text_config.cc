#include "formats/config_parts.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>

namespace gem8::internal {
namespace {

// Far above every member of the family, low enough that no product of two overflows an int64 and
// that no config makes us allocate without end.
constexpr std::int64_t kMaxWidth = std::int64_t{1} << 20;
constexpr std::int64_t kMaxVocab = std::int64_t{1} << 26;
constexpr std::int64_t kMaxLayers = 4096;
constexpr std::int64_t kMaxHeads = 4096;
constexpr std::int64_t kMaxHeadDim = 16384;
constexpr std::int64_t kMaxExperts = 65536;
constexpr std::int64_t kMaxInt = 0x7fffffff;

/// Present in the file, even as null: some members mean different things absent and null.
bool is_written(const Json& object, std::string_view key) {
  return object.find(key) != nullptr;
}

class TextParser {
 public:
  TextParser(const Json& value, std::string_view name, bool unified)
      : value_(value), name_(name), unified_(unified), fields_(value, name) {}

  Result<TextConfig> run() {
    GEM8_TRY(
        config_.model_type,
        fields_.optional_string("model_type", unified_ ? "gemma4_unified_text" : "gemma4_text"));
    GEM8_RETURN_IF_ERROR(read_sizes());
    GEM8_RETURN_IF_ERROR(read_switches());
    GEM8_RETURN_IF_ERROR(read_tokens());
    GEM8_RETURN_IF_ERROR(read_experts());
    GEM8_RETURN_IF_ERROR(read_per_layer_embeddings());
    GEM8_RETURN_IF_ERROR(read_rope());
    GEM8_RETURN_IF_ERROR(read_layer_types());
    GEM8_RETURN_IF_ERROR(read_geometry());
    GEM8_RETURN_IF_ERROR(read_kv_sharing());
    return std::move(config_);
  }

 private:
  Status size(int& out, std::string_view key, std::int64_t fallback, std::int64_t high) {
    GEM8_TRY(const std::int64_t value, fields_.optional_integer(key, fallback, 1, high));
    out = static_cast<int>(value);
    return {};
  }

  template <class... Args>
  std::unexpected<Error> refuse(Code code, fmt::format_string<Args...> format, Args&&... args) {
    return fail(code, "{}: {}", name_, fmt::format(format, std::forward<Args>(args)...));
  }

  Status read_sizes() {
    // The defaults are the class's own; no released model relies on the first three.
    GEM8_RETURN_IF_ERROR(size(config_.vocab, "vocab_size", 262144, kMaxVocab));
    GEM8_RETURN_IF_ERROR(size(config_.hidden, "hidden_size", 2304, kMaxWidth));
    GEM8_RETURN_IF_ERROR(size(config_.ffn, "intermediate_size", 9216, kMaxWidth));
    GEM8_RETURN_IF_ERROR(size(config_.n_layers, "num_hidden_layers", 30, kMaxLayers));
    GEM8_RETURN_IF_ERROR(size(config_.n_heads, "num_attention_heads", 8, kMaxHeads));
    GEM8_RETURN_IF_ERROR(size(config_.n_kv_heads, "num_key_value_heads", 4, kMaxHeads));
    GEM8_RETURN_IF_ERROR(size(config_.head_dim, "head_dim", 256, kMaxHeadDim));
    GEM8_RETURN_IF_ERROR(
        size(config_.sliding_window, "sliding_window", unified_ ? 1024 : 512, kMaxInt));
    GEM8_RETURN_IF_ERROR(size(config_.max_position_embeddings, "max_position_embeddings",
                              unified_ ? 262144 : 131072, kMaxInt));
    GEM8_TRY(const double eps, fields_.optional_number("rms_norm_eps", 1e-6));
    if (!(eps > 0.0 && eps < 1.0))
      return refuse(Code::kCorrupt, "'rms_norm_eps' is {}, wanted 0 to 1", eps);
    config_.rms_norm_eps = static_cast<float>(eps);
    return {};
  }

  Status read_switches() {
    GEM8_TRY(const std::string activation,
             fields_.optional_string("hidden_activation", "gelu_pytorch_tanh"));
    if (activation != "gelu_pytorch_tanh") {
      return refuse(Code::kUnsupported,
                    "'hidden_activation' is '{}', gem8 computes gelu_pytorch_tanh", activation);
    }
    GEM8_TRY(const bool bias, fields_.optional_boolean("attention_bias", false));
    if (bias)
      return refuse(Code::kUnsupported,
                    "'attention_bias' is true, gem8 computes attention without bias");
    GEM8_TRY(config_.attention_k_eq_v, fields_.optional_boolean("attention_k_eq_v", false));
    GEM8_TRY(config_.tie_word_embeddings, fields_.optional_boolean("tie_word_embeddings", true));
    GEM8_TRY(config_.use_double_wide_mlp, fields_.optional_boolean("use_double_wide_mlp", false));
    GEM8_TRY(const double cap, fields_.optional_number("final_logit_softcapping", 0.0));
    if (fields_.has("final_logit_softcapping")) {
      if (!(cap > 0.0 && cap < 1e6)) {
        return refuse(Code::kCorrupt,
                      "'final_logit_softcapping' is {}, wanted null or a positive number", cap);
      }
      config_.final_logit_softcapping = static_cast<float>(cap);
    }
    // Absent and null differ for the unified class only: its default is "vision".
    const bool absent = !is_written(value_, "use_bidirectional_attention");
    GEM8_TRY(const std::string mask, fields_.optional_string("use_bidirectional_attention",
                                                             unified_ && absent ? "vision" : ""));
    if (mask == "vision") {
      config_.bidirectional = BidirectionalAttention::kVision;
    } else if (mask == "all") {
      config_.bidirectional = BidirectionalAttention::kAll;
      config_.sliding_window =
          config_.sliding_window / 2 + 1;  // as the reference class rewrites it
    } else if (!mask.empty()) {
      return refuse(Code::kUnsupported,
                    "'use_bidirectional_attention' is '{}', wanted null, vision or all", mask);
    }
    return {};
  }

  Status read_tokens() {
    GEM8_TRY(const std::int64_t pad, fields_.optional_integer("pad_token_id", 0, 0, kMaxInt));
    GEM8_TRY(const std::int64_t bos, fields_.optional_integer("bos_token_id", 2, 0, kMaxInt));
    config_.pad_token_id = static_cast<int>(pad);
    config_.bos_token_id = static_cast<int>(bos);
    for (const auto& [key, id] : {std::pair("pad_token_id", pad), std::pair("bos_token_id", bos)}) {
      if (id < config_.vocab) continue;
      return refuse(Code::kCorrupt, "'{}' is {}, the vocabulary has {} entries", key, id,
                    config_.vocab);
    }
    GEM8_TRY(std::vector<int> eos, token_id_list(fields_, value_, "eos_token_id", name_));
    if (!eos.empty()) config_.eos_token_ids = std::move(eos);
    return {};
  }

  Status read_experts() {
    if (unified_) return {};  // its class has none of these members
    GEM8_TRY(const bool enabled, fields_.optional_boolean("enable_moe_block", false));
    // Pre-release spellings: use_second_mlp_block, expert_intermediate_size.
    GEM8_TRY(const bool legacy, fields_.optional_boolean("use_second_mlp_block", false));
    if (!enabled && !legacy) return {};
    const std::string_view width_key =
        fields_.has("moe_intermediate_size") ? "moe_intermediate_size" : "expert_intermediate_size";
    if (!fields_.has(width_key)) {
      return refuse(Code::kCorrupt,
                    "'moe_intermediate_size' is missing, 'enable_moe_block' needs it");
    }
    GEM8_TRY(const std::int64_t experts, fields_.integer("num_experts", 1, kMaxExperts));
    GEM8_TRY(const std::int64_t top_k, fields_.integer("top_k_experts", 1, experts));
    GEM8_TRY(const std::int64_t width, fields_.integer(width_key, 1, kMaxWidth));
    config_.n_experts = static_cast<int>(experts);
    config_.top_k_experts = static_cast<int>(top_k);
    config_.expert_ffn = static_cast<int>(width);
    return {};
  }

  Status read_per_layer_embeddings() {
    if (unified_) return {};  // absent there means 0, not 256
    const bool absent = !is_written(value_, "hidden_size_per_layer_input");
    GEM8_TRY(const std::int64_t hidden, fields_.optional_integer("hidden_size_per_layer_input",
                                                                 absent ? 256 : 0, 0, kMaxWidth));
    if (hidden == 0) return {};  // then the table's size means nothing, and may be 0 as well
    GEM8_TRY(const std::int64_t vocab,
             fields_.optional_integer("vocab_size_per_layer_input", 262144, 1, kMaxVocab));
    config_.per_layer_hidden = static_cast<int>(hidden);
    config_.per_layer_vocab = static_cast<int>(vocab);
    return {};
  }

  Status read_rope() {
    GEM8_TRY(const Json* rope, fields_.optional_object("rope_parameters"));
    if (rope == nullptr) return {};
    if (rope->find("rope_theta") != nullptr || rope->find("rope_type") != nullptr) {
      return refuse(Code::kUnsupported,
                    "'rope_parameters' is one set, wanted one per layer type (sliding_attention, "
                    "full_attention)");
    }
    GEM8_RETURN_IF_ERROR(read_one_rope(*rope, "sliding_attention", config_.rope_sliding));
    return read_one_rope(*rope, "full_attention", config_.rope_full);
  }

  Status read_one_rope(const Json& rope, std::string_view layer_type, RopeConfig& out) {
    const JsonFields outer(rope, name_ + ": rope_parameters");
    GEM8_TRY(const Json* object, outer.optional_object(layer_type));
    if (object == nullptr) return {};
    const JsonFields fields(*object, fmt::format("{}: rope_parameters: {}", name_, layer_type));
    GEM8_TRY(const std::string type, fields.optional_string("rope_type", "default"));
    if (type != "default" && type != "proportional") {
      return refuse(Code::kUnsupported,
                    "rope_parameters: {}: rope_type is '{}', gem8 knows default and proportional",
                    layer_type, type);
    }
    GEM8_TRY(out.theta, fields.optional_number("rope_theta", out.theta));
    GEM8_TRY(out.partial_rotary_factor, fields.optional_number("partial_rotary_factor", 1.0));
    GEM8_TRY(out.factor, fields.optional_number("factor", 1.0));
    if (!(out.theta > 0.0 && std::isfinite(out.theta)) ||
        !(out.factor > 0.0 && std::isfinite(out.factor)) ||
        !(out.partial_rotary_factor > 0.0 && out.partial_rotary_factor <= 1.0)) {
      return refuse(Code::kCorrupt,
                    "rope_parameters: {}: rope_theta {}, factor {}, partial_rotary_factor {}: "
                    "wanted positive, the "
                    "last at most 1",
                    layer_type, out.theta, out.factor, out.partial_rotary_factor);
    }
    if (type == "default" && (out.partial_rotary_factor != 1.0 || out.factor != 1.0)) {
      return refuse(
          Code::kUnsupported,
          "rope_parameters: {}: partial_rotary_factor and factor belong to rope_type proportional",
          layer_type);
    }
    return {};
  }

  Status read_layer_types() {
    config_.layers.resize(static_cast<std::size_t>(config_.n_layers));
    GEM8_TRY(const Json* types, fields_.optional_array("layer_types"));
    if (types == nullptr) {
      for (int i = 0; i < config_.n_layers; ++i) layer(i).full = (i + 1) % 6 == 0;
    } else {
      if (types->as_array().size() != config_.layers.size()) {
        return refuse(Code::kCorrupt, "'layer_types' has {} entries, 'num_hidden_layers' is {}",
                      types->as_array().size(), config_.n_layers);
      }
      for (int i = 0; i < config_.n_layers; ++i) {
        const Json& type = types->as_array()[static_cast<std::size_t>(i)];
        if (!type.is_string()) {
          return refuse(Code::kCorrupt, "'layer_types' entry {}: found {}, wanted a string", i,
                        type.kind_name());
        }
        const std::string& text = type.as_string();
        if (text != "full_attention" && text != "sliding_attention") {
          return refuse(
              Code::kUnsupported,
              "'layer_types' entry {} is '{}', wanted sliding_attention or full_attention", i,
              text);
        }
        layer(i).full = text == "full_attention";
      }
    }
    config_.layers.back().full = true;  // the reference class forces this, with a warning
    return {};
  }

  /// head_dim, KV heads and has_v of every layer, from either key style.
  Status read_geometry() {
    GEM8_TRY(const Json* overrides, fields_.optional_object("per_layer_config"));
    // global_head_dim: absent is 512; 0 or null falls back to head_dim. A config with
    // per_layer_config has no global_* keys: what that does not override keeps the sliding layers'
    // value.
    const bool absent = !is_written(value_, "global_head_dim");
    GEM8_TRY(const std::int64_t global,
             fields_.optional_integer("global_head_dim", absent && overrides == nullptr ? 512 : 0,
                                      0, kMaxHeadDim));
    config_.global_head_dim = global == 0 ? config_.head_dim : static_cast<int>(global);
    GEM8_TRY(
        const std::int64_t global_kv,
        fields_.optional_integer("num_global_key_value_heads", config_.n_kv_heads, 1, kMaxHeads));
    for (LayerConfig& layer : config_.layers) {
      layer.head_dim = layer.full ? config_.global_head_dim : config_.head_dim;
      layer.has_v = !(layer.full && config_.attention_k_eq_v);
      layer.n_kv_heads = layer.has_v ? config_.n_kv_heads : static_cast<int>(global_kv);
    }
    if (overrides != nullptr) GEM8_RETURN_IF_ERROR(apply_overrides(*overrides));
    config_.global_head_dim = config_.layers.back().head_dim;
    for (int i = 0; i < config_.n_layers; ++i) {
      const LayerConfig& l = layer(i);
      if (l.head_dim % 2 != 0) {
        return refuse(Code::kCorrupt,
                      "layer {}: head_dim {} is odd, rotary embedding pairs dimensions", i,
                      l.head_dim);
      }
      if (config_.n_heads % l.n_kv_heads != 0) {
        return refuse(Code::kCorrupt,
                      "layer {}: {} query heads cannot share {} key-value heads evenly", i,
                      config_.n_heads, l.n_kv_heads);
      }
    }
    return {};
  }

  Status apply_overrides(const Json& overrides) {
    std::vector<bool> seen(config_.layers.size(), false);
    for (const JsonMember& member : overrides.as_object()) {
      std::size_t index = 0;
      const char* end = member.key.data() + member.key.size();
      const auto [stop, error] = std::from_chars(member.key.data(), end, index);
      if (error != std::errc() || stop != end || index >= config_.layers.size()) {
        return refuse(Code::kCorrupt, "'per_layer_config' key '{}', wanted a layer from 0 to {}",
                      member.key, config_.n_layers - 1);
      }
      if (seen[index])
        return refuse(Code::kCorrupt, "'per_layer_config' names layer {} twice", index);
      seen[index] = true;
      if (!member.value.is_object()) {
        return refuse(Code::kCorrupt, "'per_layer_config' of layer {}: found {}, wanted an object",
                      index, member.value.kind_name());
      }
      for (const JsonMember& item : member.value.as_object()) {
        if (item.key != "head_dim" && item.key != "num_key_value_heads") {
          return refuse(Code::kUnsupported,
                        "'per_layer_config' of layer {} overrides '{}', gem8 knows head_dim and "
                        "num_key_value_heads",
                        index, item.key);
        }
      }
      const JsonFields fields(member.value,
                              fmt::format("{}: per_layer_config: {}", name_, member.key));
      LayerConfig& l = config_.layers[index];
      GEM8_TRY(const std::int64_t dim,
               fields.optional_integer("head_dim", l.head_dim, 1, kMaxHeadDim));
      GEM8_TRY(const std::int64_t kv,
               fields.optional_integer("num_key_value_heads", l.n_kv_heads, 1, kMaxHeads));
      l.head_dim = static_cast<int>(dim);
      l.n_kv_heads = static_cast<int>(kv);
    }
    return {};
  }

  Status read_kv_sharing() {
    GEM8_TRY(const std::int64_t shared,
             fields_.optional_integer("num_kv_shared_layers", 0, 0, config_.n_layers));
    if (shared == config_.n_layers) {
      return refuse(Code::kUnsupported, "all {} layers share K/V with another model (a drafter)",
                    config_.n_layers);
    }
    config_.n_kv_shared_layers = static_cast<int>(shared);
    const int first = config_.first_kv_shared();
    for (int i = 0; i < config_.n_layers; ++i) {
      LayerConfig& l = layer(i);
      l.kv_source = i;
      l.kv_shared = i >= first;
      l.mlp_width = config_.ffn * (config_.use_double_wide_mlp && l.kv_shared ? 2 : 1);
      if (!l.kv_shared) continue;
      int source = first - 1;
      while (source >= 0 && layer(source).full != l.full) --source;
      if (source < 0) {
        return refuse(Code::kCorrupt, "layer {} shares K/V, but no layer below {} has its type", i,
                      first);
      }
      l.kv_source = source;
      if (layer(source).head_dim != l.head_dim || layer(source).n_kv_heads != l.n_kv_heads) {
        return refuse(Code::kCorrupt,
                      "layer {} shares the K/V of layer {}, but their heads differ in shape", i,
                      source);
      }
    }
    return {};
  }

  LayerConfig& layer(int i) { return config_.layers[static_cast<std::size_t>(i)]; }

  const Json& value_;
  std::string name_;
  bool unified_;
  JsonFields fields_;
  TextConfig config_;
};

}  // namespace

Result<std::vector<int>> token_id_list(const JsonFields& fields, const Json& object,
                                       std::string_view key, std::string_view name) {
  std::vector<int> ids;
  const Json* value = object.find(key);
  if (value == nullptr || value->is_null()) return ids;
  if (!value->is_array()) {
    GEM8_TRY(const std::int64_t id, fields.integer(key, 0, kMaxInt));
    ids.push_back(static_cast<int>(id));
    return ids;
  }
  for (const Json& item : value->as_array()) {
    if (!item.is_int() || item.as_int() < 0 || item.as_int() > kMaxInt) {
      return fail(Code::kCorrupt, "{}: '{}': found {}, wanted token ids", name, key,
                  to_text(item).substr(0, 40));
    }
    ids.push_back(static_cast<int>(item.as_int()));
  }
  return ids;
}

Result<TextConfig> parse_text_config(const Json& value, std::string_view name, bool unified) {
  return TextParser(value, name, unified).run();
}

}  // namespace gem8::internal
