#pragma once

#include <cstdint>

#include "backend/device.h"
#include "foundation/result.h"
#include "kernels/ops.h"
#include "model/matrix.h"

namespace gem8 {

struct TextConfig;

/// The tensors between the weights of one step, made once for the largest step. [tokens, ...] each.
struct Workspace {
  static Result<Workspace> create(const TextConfig& config, Ops& ops, std::int64_t max_tokens);

  Matrix hidden;             ///< the residual stream
  Matrix normed;             ///< [hidden] input of linears
  Matrix block;              ///< [hidden] output of attention or dense MLP
  Matrix experts;            ///< [hidden]
  Matrix q, k, v;            ///< widest layer's heads * head_dim
  Matrix mix;                ///< [heads * head_dim] output of attention
  Matrix ffn;                ///< [widest MLP]
  Matrix chosen;             ///< I32 [top_k]
  Matrix weights;            ///< F32 [top_k]
  Matrix router_logits;      ///< F32 [experts]
  Matrix per_layer;          ///< [layers * width]
  Matrix per_layer_context;  ///< [layers * width]
  Matrix per_layer_gate;     ///< [width]
};

}  // namespace gem8
