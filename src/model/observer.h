#pragma once

#include <cstdint>

#include "kernels/ops.h"

namespace gem8 {

/// The tensors an Observer can see, in the order of the forward pass. Names of §3 of the Gemma 4
/// model description in comments.
enum class Tap {
  kEmbeddings,      ///< [tokens, hidden] input of layer 0, soft tokens inserted
  kPerLayerInputs,  ///< [tokens, layers * width] per-layer embeddings, where the model has them
  kAttentionIn,     ///< [tokens, hidden] input of q, k and v
  kAttentionOutIn,  ///< [tokens, heads * head_dim] input of o
  kAttentionOut,    ///< [tokens, hidden] output of o, before its norm
  kMlpIn,           ///< [tokens, hidden] input of gate and up
  kMlpDownIn,       ///< [tokens, ffn] input of down
  kMlpOut,          ///< [tokens, hidden] output of down, before any norm
  kExpertsIn,       ///< [tokens, hidden] input of the experts' gate and up
  kExpertsOut,      ///< [tokens, hidden] weighted sum of the experts, before its norm
  kPerLayerGateIn,  ///< [tokens, hidden] input of per_layer_input_gate
  kPerLayerOutIn,   ///< [tokens, per-layer width] input of per_layer_projection
  kLayerOut,        ///< [tokens, hidden] after the layer scalar
  kFinalNorm,       ///< [logit rows, hidden]
  kLogits,          ///< [logit rows, vocab] F32 after the soft cap
};

/// Looks at a forward pass without changing it. With no observer none of the extra work is done.
/// The matrices are on the ops' device and live only during the call; their rows are those of the
/// batch. (The input of the experts' down projection exists only inside the experts kernel:
/// experts() says where its maxima go.)
class Observer {
 public:
  virtual ~Observer() = default;

  virtual void tensor(Tap /*tap*/, std::int32_t /*layer*/, ConstMat /*x*/) {}
  /// Chosen experts, on the device; `logits` F32 [tokens, experts].
  virtual void routing(std::int32_t /*layer*/, const Routing& /*chosen*/, ConstMat /*logits*/) {}
  virtual ExpertObserver experts(std::int32_t /*layer*/) { return {}; }
};

}  // namespace gem8
