#include "model/workspace.h"

#include <algorithm>

#include "formats/model_config.h"

namespace gem8 {

Result<Workspace> Workspace::create(const TextConfig& config, Ops& ops, std::int64_t max_tokens) {
  std::int64_t q_width = 0, kv_width = 0, ffn_width = 0;
  for (const LayerConfig& layer : config.layers) {
    q_width = std::max(q_width, std::int64_t{config.n_heads} * layer.head_dim);
    kv_width = std::max(kv_width, std::int64_t{layer.n_kv_heads} * layer.head_dim);
    ffn_width = std::max(ffn_width, std::int64_t{layer.mlp_width});
  }
  const std::int64_t per_layer_width = std::int64_t{config.n_layers} * config.per_layer_hidden;
  const DType activations = ops.activation_dtype();
  const auto make = [&](std::int64_t cols, DType dtype) {
    return Matrix::create(ops.device(), dtype, max_tokens, cols);
  };

  Workspace w;
  GEM8_TRY(w.hidden, make(config.hidden, activations));
  GEM8_TRY(w.normed, make(config.hidden, activations));
  GEM8_TRY(w.block, make(config.hidden, activations));
  GEM8_TRY(w.q, make(q_width, activations));
  GEM8_TRY(w.k, make(kv_width, activations));
  GEM8_TRY(w.v, make(kv_width, activations));
  GEM8_TRY(w.mix, make(q_width, activations));
  GEM8_TRY(w.ffn, make(ffn_width, activations));
  if (config.has_experts()) {
    GEM8_TRY(w.experts, make(config.hidden, activations));
    GEM8_TRY(w.chosen, make(config.top_k_experts, DType::kI32));
    GEM8_TRY(w.weights, make(config.top_k_experts, DType::kF32));
    GEM8_TRY(w.router_logits, make(config.n_experts, DType::kF32));
  }
  if (config.has_per_layer_embeddings()) {
    GEM8_TRY(w.per_layer, make(per_layer_width, activations));
    GEM8_TRY(w.per_layer_context, make(per_layer_width, activations));
    GEM8_TRY(w.per_layer_gate, make(config.per_layer_hidden, activations));
  }
  return w;
}

}  // namespace gem8
