#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "backend/device.h"
#include "foundation/result.h"
#include "kernels/cost.h"
#include "kernels/ops.h"

namespace gem8 {

class Checkpoint;

/// One decoder layer's parameters. Members a layer does not have (k and v of layers that share
/// another's, v where K serves as V, the experts and per-layer parts of models without) stay null.
struct LayerWeights {
  ParamVec input_norm;
  ParamVec post_attention_norm;
  ParamVec pre_ffn_norm;
  ParamVec post_ffn_norm;
  float scalar = 1.0f;  ///< layer_scalar

  LinearWeight q, k, v, o;
  ParamVec q_norm, k_norm;
  RopeTable rope;

  LinearWeight gate, up, down;

  ParamVec post_ffn_norm_1;  ///< of the dense MLP's output, beside experts
  ParamVec pre_ffn_norm_2;   ///< of the experts' input
  ParamVec post_ffn_norm_2;  ///< of the experts' output
  RouterWeights router;
  std::vector<LinearWeight> expert_gate, expert_up, expert_down;  ///< [experts]

  LinearWeight per_layer_gate, per_layer_projection;
  ParamVec per_layer_norm;
};

struct ModelWeights {
  LinearWeight embed;
  LinearWeight head;  ///< embed where tied
  ParamVec norm;
  LinearWeight per_layer_embed;       ///< [vocab, layers * width]
  LinearWeight per_layer_projection;  ///< [layers * width, hidden]
  ParamVec per_layer_norm;            ///< [width]
  std::vector<LayerWeights> layers;
  std::vector<Buffer>
      owned;  ///< what is not in the mapped file: rope tables, tensors at unaligned addresses
};

/// Finds every text tensor the configuration asks for, checks dtype and shape, and hands its bytes
/// to the device. Experts may be stored fused ([experts, 2 * ffn, hidden]) or one by one. FP8
/// weights need `weight_scale`, and `input_scale` where activations are static; linears that read
/// the same input get the largest of their input scales, as vLLM does when it merges them. Errors:
/// kNotFound, kCorrupt, kUnsupported, naming the tensor, what was found and what was wanted;
/// kExhausted.
Result<std::unique_ptr<ModelWeights>> bind_weights(const Checkpoint& checkpoint, Device& device);

/// What a step asks of the weights.
struct StepShape {
  std::int64_t tokens = 1;
  std::int64_t logit_rows = 1;  ///< tokens whose logits are wanted
  std::int64_t experts_per_token = 0;
  std::int64_t distinct_experts = 0;  ///< that some token chose, counted over all layers
};

/// The least a step reads and multiplies; attention over the cache comes on top.
Cost weights_cost(const ModelWeights& weights, const StepShape& step);

}  // namespace gem8
