// The decoder layer, top to bottom.
#include <array>
#include <cstddef>

#include "formats/checkpoint.h"
#include "model/model.h"
#include "model/weights.h"
#include "model/workspace.h"

namespace gem8 {

void Model::layer(std::int32_t i, const Step& step, Mat x, ConstMat per_layer, Observer* observer) {
  const TextConfig& c = config().text;
  const LayerWeights& w = weights_->layers[static_cast<std::size_t>(i)];
  const std::int64_t tokens = step.tokens;
  const float eps = c.rms_norm_eps;
  const bool per_layer_input = c.has_per_layer_embeddings();
  const auto see = [&](Tap tap, ConstMat tensor) {
    if (observer != nullptr) observer->tensor(tap, i, tensor);
  };

  const Mat normed = workspace_->normed.mat(tokens);
  const Mat block = workspace_->block.mat(tokens);

  // x := x + norm(attention(norm(x)))
  ops_->rms_norm(x, w.input_norm, eps, normed);
  see(Tap::kAttentionIn, normed);
  const Mat mix = attention(i, step, normed);
  see(Tap::kAttentionOutIn, mix);
  const LinearTask o{&w.o, block};
  ops_->linear(mix, {&o, 1});
  see(Tap::kAttentionOut, block);
  ops_->norm_add(block, w.post_attention_norm, eps, x, 1.0f, x);

  // x := x + norm(mlp(norm(x)))
  const Mat ffn = workspace_->ffn.mat(tokens, w.gate.out);
  ops_->rms_norm(x, w.pre_ffn_norm, eps, normed);
  see(Tap::kMlpIn, normed);
  ops_->gated_linear(normed, w.gate, w.up, ffn);
  see(Tap::kMlpDownIn, ffn);
  const LinearTask down{&w.down, block};
  ops_->linear(ffn, {&down, 1});
  see(Tap::kMlpOut, block);
  if (c.has_experts()) add_experts(i, x, block, observer);
  ops_->norm_add(block, w.post_ffn_norm, eps, x, per_layer_input ? 1.0f : w.scalar, x);

  // x := x + norm(projection(gelu(gate(x)) * per_layer[i]))
  if (per_layer_input) {
    const ConstMat mine =
        columns(per_layer, std::int64_t{i} * c.per_layer_hidden, c.per_layer_hidden);
    const Mat gate = workspace_->per_layer_gate.mat(tokens);
    see(Tap::kPerLayerGateIn, x);
    const LinearTask to_gate{&w.per_layer_gate, gate};
    ops_->linear(x, {&to_gate, 1});
    ops_->gelu_mul(gate, mine, gate);
    see(Tap::kPerLayerOutIn, gate);
    const LinearTask to_hidden{&w.per_layer_projection, block};
    ops_->linear(gate, {&to_hidden, 1});
    ops_->norm_add(block, w.per_layer_norm, eps, x, w.scalar, x);
  }
  see(Tap::kLayerOut, x);
}

Mat Model::attention(std::int32_t i, const Step& step, ConstMat x) {
  const TextConfig& c = config().text;
  const LayerConfig& layer = c.layers[static_cast<std::size_t>(i)];
  const LayerWeights& w = weights_->layers[static_cast<std::size_t>(i)];
  const std::int64_t tokens = step.tokens;
  const float eps = c.rms_norm_eps;

  KvLayer kv = step.cache->layer(i);
  kv.k_norm = weights_->layers[static_cast<std::size_t>(layer.kv_source)].k_norm;
  const auto& sequences = layer.full ? step.full : step.sliding;

  const Mat q = workspace_->q.mat(tokens, w.q.out);
  if (layer.kv_shared) {
    const LinearTask task{&w.q, q};
    ops_->linear(x, {&task, 1});
  } else {
    const Mat k = workspace_->k.mat(tokens, w.k.out);
    const Mat v = workspace_->v.mat(tokens, w.k.out);
    const std::array<LinearTask, 3> tasks{{{&w.q, q}, {&w.k, k}, {&w.v, v}}};
    ops_->linear(x, std::span(tasks).first(layer.has_v ? 3 : 2));
    // Values are normed without weight and never rotated; where they come from the key projection,
    // from its raw output.
    const RopeTable unrotated{.head_dim = layer.head_dim};
    ops_->norm_rope(layer.has_v ? v : k, layer.n_kv_heads, {}, eps, step.positions, unrotated, v);
    ops_->norm_rope(k, layer.n_kv_heads, w.k_norm, eps, step.positions, w.rope, k);
    ops_->store_kv(k, v, kv, sequences);
  }
  ops_->norm_rope(q, c.n_heads, w.q_norm, eps, step.positions, w.rope, q);

  AttentionStep attend{.sequences = sequences};
  if (!layer.full) {
    attend.blocks = step.blocks;
    attend.window = c.sliding_window;
  }
  const Mat mix = workspace_->mix.mat(tokens, w.q.out);
  ops_->attention(q, c.n_heads, kv, attend, mix);
  return mix;
}

void Model::add_experts(std::int32_t i, ConstMat x, Mat block, Observer* observer) {
  const TextConfig& c = config().text;
  const LayerWeights& w = weights_->layers[static_cast<std::size_t>(i)];
  const float eps = c.rms_norm_eps;

  Routing routing;
  routing.experts = static_cast<std::int32_t*>(workspace_->chosen.mat().data);
  routing.weights = static_cast<float*>(workspace_->weights.mat().data);
  routing.tokens = x.rows;
  routing.top_k = c.top_k_experts;
  // The router reads the residual stream itself, the experts a norm of it.
  const Mat logits = observer != nullptr ? workspace_->router_logits.mat(x.rows) : Mat{};
  ops_->router(x, w.router, eps, routing, logits);
  if (observer != nullptr) observer->routing(i, routing, logits);

  const Mat normed = workspace_->normed.mat(x.rows);
  ops_->rms_norm(x, w.pre_ffn_norm_2, eps, normed);
  if (observer != nullptr) observer->tensor(Tap::kExpertsIn, i, normed);
  const Mat sum = workspace_->experts.mat(x.rows);
  const ExpertWeights experts{w.expert_gate, w.expert_up, w.expert_down};
  ops_->experts(normed, routing, experts, sum,
                observer != nullptr ? observer->experts(i) : ExpertObserver{});
  if (observer != nullptr) observer->tensor(Tap::kExpertsOut, i, sum);

  ops_->rms_norm(sum, w.post_ffn_norm_2, eps, sum);
  ops_->rms_norm(block, w.post_ffn_norm_1, eps, block);
  ops_->add(block, sum, 1.0f, block);
}

}  // namespace gem8
