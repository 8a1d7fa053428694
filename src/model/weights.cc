#include "model/weights.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <initializer_list>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "formats/checkpoint.h"
#include "foundation/log.h"
#include "model/rope.h"

namespace gem8 {
namespace {

using Shape = std::initializer_list<std::int64_t>;

std::span<const std::int64_t> as_span(Shape shape) {
  return {shape.begin(), shape.size()};
}

/// Binds tensors of one checkpoint; the layer index and the names are those of the checkpoint's
/// text decoder.
class Binder {
 public:
  Binder(const Checkpoint& checkpoint, Device& device, ModelWeights& weights)
      : checkpoint_(checkpoint),
        config_(checkpoint.config().text),
        device_(device),
        weights_(weights) {
    const auto& quantization = checkpoint.config().quantization;
    static_activations_ = quantization && quantization->activations == ActivationScheme::kStatic;
  }

  Status model() {
    const TextConfig& c = config_;
    GEM8_TRY(weights_.embed, table("embed_tokens.weight", c.vocab, c.hidden));
    weights_.head = weights_.embed;
    if (checkpoint_.find_text("lm_head.weight") != nullptr || !c.tie_word_embeddings) {
      GEM8_TRY(weights_.head, linear("lm_head", c.vocab, c.hidden));
    }
    GEM8_TRY(weights_.norm, vector("norm.weight", c.hidden));
    if (c.has_per_layer_embeddings()) {
      const std::int64_t width = std::int64_t{c.n_layers} * c.per_layer_hidden;
      if (c.per_layer_vocab < c.vocab) {
        return fail(Code::kUnsupported, "vocab_size_per_layer_input is {}, less than vocab_size {}",
                    c.per_layer_vocab, c.vocab);
      }
      GEM8_TRY(weights_.per_layer_embed,
               table("embed_tokens_per_layer.weight", c.per_layer_vocab, width));
      GEM8_TRY(weights_.per_layer_projection,
               linear("per_layer_model_projection", width, c.hidden));
      GEM8_TRY(weights_.per_layer_norm,
               vector("per_layer_projection_norm.weight", c.per_layer_hidden));
    }
    weights_.layers.resize(static_cast<std::size_t>(c.n_layers));
    for (int i = 0; i < c.n_layers; ++i) {
      GEM8_RETURN_IF_ERROR(layer(i, weights_.layers[static_cast<std::size_t>(i)]));
    }
    return {};
  }

 private:
  Status layer(int i, LayerWeights& w) {
    const TextConfig& c = config_;
    const LayerConfig& lc = c.layers[static_cast<std::size_t>(i)];
    const std::string p = fmt::format("layers.{}.", i);
    const std::int64_t hidden = c.hidden;

    GEM8_TRY(w.input_norm, vector(p + "input_layernorm.weight", hidden));
    GEM8_TRY(w.post_attention_norm, vector(p + "post_attention_layernorm.weight", hidden));
    GEM8_TRY(w.pre_ffn_norm, vector(p + "pre_feedforward_layernorm.weight", hidden));
    GEM8_TRY(w.post_ffn_norm, vector(p + "post_feedforward_layernorm.weight", hidden));
    GEM8_TRY(w.scalar, scalar(p + "layer_scalar"));

    const std::int64_t q_width = std::int64_t{c.n_heads} * lc.head_dim;
    const std::int64_t kv_width = std::int64_t{lc.n_kv_heads} * lc.head_dim;
    const std::string attention = p + "self_attn.";
    GEM8_TRY(w.q, linear(attention + "q_proj", q_width, hidden));
    GEM8_TRY(w.o, linear(attention + "o_proj", hidden, q_width));
    GEM8_TRY(w.q_norm, vector(attention + "q_norm.weight", lc.head_dim));
    if (!lc.kv_shared) {  // where they are shared, stored k and v are dead weights
      GEM8_TRY(w.k, linear(attention + "k_proj", kv_width, hidden));
      GEM8_TRY(w.k_norm, vector(attention + "k_norm.weight", lc.head_dim));
      if (lc.has_v) {
        GEM8_TRY(w.v, linear(attention + "v_proj", kv_width, hidden));
      }
    }
    share_input_scale({&w.q, &w.k, &w.v});
    GEM8_TRY(w.rope, rope(lc.full, lc.head_dim));

    GEM8_TRY(w.gate, linear(p + "mlp.gate_proj", lc.mlp_width, hidden));
    GEM8_TRY(w.up, linear(p + "mlp.up_proj", lc.mlp_width, hidden));
    GEM8_TRY(w.down, linear(p + "mlp.down_proj", hidden, lc.mlp_width));
    share_input_scale({&w.gate, &w.up});

    if (c.has_experts()) {
      GEM8_TRY(w.post_ffn_norm_1, vector(p + "post_feedforward_layernorm_1.weight", hidden));
      GEM8_TRY(w.pre_ffn_norm_2, vector(p + "pre_feedforward_layernorm_2.weight", hidden));
      GEM8_TRY(w.post_ffn_norm_2, vector(p + "post_feedforward_layernorm_2.weight", hidden));
      GEM8_TRY(w.router.scale, vector(p + "router.scale", hidden));
      GEM8_TRY(w.router.proj, table(p + "router.proj.weight", c.n_experts, hidden));
      GEM8_TRY(w.router.per_expert_scale, vector(p + "router.per_expert_scale", c.n_experts));
      GEM8_RETURN_IF_ERROR(experts(p + "experts.", w));
    }
    if (!c.has_experts()) GEM8_RETURN_IF_ERROR(checkpoint_.check_no_experts(i));
    if (c.has_per_layer_embeddings()) {
      GEM8_TRY(w.per_layer_gate, linear(p + "per_layer_input_gate", c.per_layer_hidden, hidden));
      GEM8_TRY(w.per_layer_projection,
               linear(p + "per_layer_projection", hidden, c.per_layer_hidden));
      GEM8_TRY(w.per_layer_norm, vector(p + "post_per_layer_input_norm.weight", hidden));
    }
    return {};
  }

  Status experts(const std::string& p, LayerWeights& w) {
    const std::int64_t hidden = config_.hidden;
    const std::int64_t ffn = config_.expert_ffn;
    const std::int64_t n = config_.n_experts;
    if (checkpoint_.find_text(p + "gate_up_proj") != nullptr) {
      GEM8_TRY(const LinearWeight gate_up, fused(p + "gate_up_proj", {n, 2 * ffn, hidden}));
      GEM8_TRY(const LinearWeight down, fused(p + "down_proj", {n, hidden, ffn}));
      for (std::int64_t e = 0; e < n; ++e) {
        w.expert_gate.push_back(rows(gate_up, e * 2 * ffn, ffn));
        w.expert_up.push_back(rows(gate_up, e * 2 * ffn + ffn, ffn));
        w.expert_down.push_back(rows(down, e * hidden, hidden));
      }
      return {};
    }
    for (std::int64_t e = 0; e < n; ++e) {
      const std::string expert = fmt::format("{}{}.", p, e);
      GEM8_TRY(w.expert_gate.emplace_back(),
               linear(expert + "gate_proj", ffn, hidden, Scales::kExpert));
      GEM8_TRY(w.expert_up.emplace_back(),
               linear(expert + "up_proj", ffn, hidden, Scales::kExpert));
      GEM8_TRY(w.expert_down.emplace_back(),
               linear(expert + "down_proj", hidden, ffn, Scales::kExpert));
    }
    // All experts of a layer read one quantised input: the largest scale, also for experts that
    // calibration never reached and for which some quantisers store none.
    GEM8_RETURN_IF_ERROR(share_expert_scale(p, {&w.expert_gate, &w.expert_up}));
    return share_expert_scale(p, {&w.expert_down});
  }

  Status share_expert_scale(const std::string& p,
                            std::initializer_list<std::vector<LinearWeight>*> group) {
    float largest = 0;
    std::size_t missing = 0;
    for (const auto* weights : group) {
      for (const LinearWeight& weight : *weights) {
        largest = std::max(largest, weight.input_scale);
        missing += weight.dtype == DType::kF8E4M3 && weight.input_scale == 0 ? 1 : 0;
      }
    }
    if (static_activations_ && missing > 0) {
      if (largest == 0) {
        return fail(Code::kNotFound,
                    "no expert under '{}{}' has an input_scale, the static scheme wants one each",
                    checkpoint_.text_prefix(), p);
      }
      log_warning(
          "{} expert linears under '{}{}' have no input_scale: using the layer's largest, {}",
          missing, checkpoint_.text_prefix(), p, largest);
    }
    for (auto* weights : group) {
      for (LinearWeight& weight : *weights) {
        if (weight.dtype == DType::kF8E4M3) weight.input_scale = largest;
      }
    }
    return {};
  }

  static void share_input_scale(std::initializer_list<LinearWeight*> group) {
    float largest = 0;
    for (const LinearWeight* weight : group) largest = std::max(largest, weight->input_scale);
    for (LinearWeight* weight : group) {
      if (weight->dtype == DType::kF8E4M3) weight->input_scale = largest;
    }
  }

  enum class Scales { kRequired, kExpert };  ///< kExpert: input_scale may be missing

  /// NAME.weight with its scales.
  Result<LinearWeight> linear(const std::string& name, std::int64_t out, std::int64_t in,
                              Scales scales = Scales::kRequired) {
    GEM8_TRY(const TensorInfo* info, find(name + ".weight", {out, in}));
    LinearWeight weight{.dtype = info->dtype, .out = out, .in = in};
    if (info->dtype == DType::kF8E4M3) {
      GEM8_TRY(weight.scale, scale(name + ".weight_scale"));
      if (static_activations_ && (scales == Scales::kRequired ||
                                  checkpoint_.find_text(name + ".input_scale") != nullptr)) {
        GEM8_TRY(weight.input_scale, scale(name + ".input_scale"));
      }
    } else {
      GEM8_RETURN_IF_ERROR(check_plain(*info));
    }
    GEM8_TRY(weight.data, bytes(*info));
    return weight;
  }

  /// A matrix that is never quantised.
  Result<LinearWeight> table(const std::string& name, std::int64_t rows, std::int64_t cols) {
    GEM8_TRY(const TensorInfo* info, find(name, {rows, cols}));
    GEM8_RETURN_IF_ERROR(check_plain(*info));
    LinearWeight weight{.dtype = info->dtype, .out = rows, .in = cols};
    GEM8_TRY(weight.data, bytes(*info));
    return weight;
  }

  Result<LinearWeight> fused(const std::string& name, Shape shape) {
    GEM8_TRY(const TensorInfo* info, find(name, shape));
    GEM8_RETURN_IF_ERROR(check_plain(*info));
    LinearWeight weight{.dtype = info->dtype,
                        .out = *shape.begin() * *(shape.begin() + 1),
                        .in = *(shape.begin() + 2)};
    GEM8_TRY(weight.data, bytes(*info));
    return weight;
  }

  static LinearWeight rows(const LinearWeight& weight, std::int64_t first, std::int64_t n) {
    LinearWeight part = weight;
    part.data = static_cast<const std::byte*>(weight.data) +
                static_cast<std::size_t>(first * weight.in) * dtype_bytes(weight.dtype);
    part.out = n;
    return part;
  }

  Result<ParamVec> vector(const std::string& name, std::int64_t size) {
    GEM8_TRY(const TensorInfo* info, find(name, {size}));
    GEM8_RETURN_IF_ERROR(check_plain(*info));
    GEM8_TRY(const void* data, bytes(*info));
    return ParamVec{data, info->dtype, size};
  }

  /// A single number, read on the host: shape [] or [1].
  Result<float> scalar(const std::string& name) {
    GEM8_TRY(const TensorInfo* info, find(name));
    if (info->shape.size() > 1 || info->n_elements() != 1) {
      return fail(
          info->shape.size() <= 2 && info->n_elements() > 1 ? Code::kUnsupported : Code::kCorrupt,
          "tensor '{}': shape {}, want one number", info->name, shape_text(info->shape));
    }
    if (info->dtype == DType::kF32) {
      float value = 0;
      std::memcpy(&value, info->bytes.data(), sizeof value);
      return value;
    }
    GEM8_RETURN_IF_ERROR(check_plain(*info));
    BF16 value;
    std::memcpy(&value.bits, info->bytes.data(), sizeof value.bits);
    return static_cast<float>(value);
  }

  Result<float> scale(const std::string& name) {
    GEM8_TRY(const float value, scalar(name));
    if (!std::isfinite(value) || value <= 0) {
      return fail(Code::kCorrupt, "tensor '{}{}' is {}, a scale is finite and positive",
                  checkpoint_.text_prefix(), name, value);
    }
    return value;
  }

  Result<RopeTable> rope(bool full, int head_dim) {
    auto& table = ropes_[{full, head_dim}];
    if (table.inv_freq == nullptr) {
      const std::vector<float> inv_freq =
          rope_frequencies(full ? config_.rope_full : config_.rope_sliding, head_dim);
      const auto raw = std::as_bytes(std::span(inv_freq));
      GEM8_TRY(Buffer buffer, device_.allocate(raw.size()));
      device_.upload(buffer.address(), raw);
      table = {static_cast<const float*>(buffer.address()), head_dim};
      weights_.owned.push_back(std::move(buffer));
    }
    return table;
  }

  Result<const TensorInfo*> find(const std::string& name) const {
    const TensorInfo* info = checkpoint_.find_text(name);
    if (info == nullptr) {
      return fail(Code::kNotFound, "tensor '{}{}' is missing", checkpoint_.text_prefix(), name);
    }
    return info;
  }

  Result<const TensorInfo*> find(const std::string& name, Shape shape) const {
    GEM8_TRY(const TensorInfo* info, find(name));
    if (!std::ranges::equal(info->shape, shape)) {
      return fail(Code::kCorrupt, "tensor '{}': shape {}, config wants {}", info->name,
                  shape_text(info->shape), shape_text(as_span(shape)));
    }
    return info;
  }

  static Status check_plain(const TensorInfo& info) {
    if (info.dtype == DType::kBF16 || info.dtype == DType::kF32) return {};
    return fail(Code::kUnsupported, "tensor '{}': dtype {}, want BF16 or F32", info.name,
                dtype_name(info.dtype));
  }

  /// The device address. The file promises no alignment: kernels load whole elements, so a tensor
  /// that begins between two is copied.
  Result<const void*> bytes(const TensorInfo& info) {
    if (std::bit_cast<std::uintptr_t>(info.bytes.data()) % dtype_bytes(info.dtype) == 0) {
      return device_.adopt(info.bytes);
    }
    GEM8_TRY(Buffer buffer, device_.allocate(info.bytes.size()));
    device_.upload(buffer.address(), info.bytes);
    const void* address = buffer.address();
    weights_.owned.push_back(std::move(buffer));
    return address;
  }

  const Checkpoint& checkpoint_;
  const TextConfig& config_;
  Device& device_;
  ModelWeights& weights_;
  bool static_activations_ = false;
  std::map<std::pair<bool, int>, RopeTable> ropes_;
};

}  // namespace

Result<std::unique_ptr<ModelWeights>> bind_weights(const Checkpoint& checkpoint, Device& device) {
  if (checkpoint.config().quantization) {
    GEM8_RETURN_IF_ERROR(checkpoint.config().quantization->check_loadable());
  }
  auto weights = std::make_unique<ModelWeights>();
  const Status bound = Binder(checkpoint, device, *weights).model();
  if (!bound) return checkpoint.refuse(bound.error());
  return weights;
}

Cost weights_cost(const ModelWeights& weights, const StepShape& step) {
  Cost total = linear_cost(weights.head, step.logit_rows);
  total += linear_cost(weights.per_layer_projection, step.tokens);
  for (const LayerWeights& w : weights.layers) {
    for (const LinearWeight* linear :
         {&w.q, &w.k, &w.v, &w.o, &w.gate, &w.up, &w.down, &w.router.proj, &w.per_layer_gate,
          &w.per_layer_projection}) {
      total += linear_cost(*linear, step.tokens);
    }
    total += experts_cost({w.expert_gate, w.expert_up, w.expert_down},
                          step.tokens * step.experts_per_token, 0);
  }
  if (!weights.layers.empty()) {
    const LayerWeights& w = weights.layers.front();  // experts are of one size in all layers
    total += experts_cost({w.expert_gate, w.expert_up, w.expert_down}, 0, step.distinct_experts);
  }
  return total;
}

}  // namespace gem8
