#pragma once

#include <memory>
#include <span>
#include <vector>

#include "foundation/result.h"
#include "foundation/thread_pool.h"
#include "foundation/token_id.h"
#include "model/model.h"
#include "quantize/eval/divergence.h"

namespace gem8::eval {

/// Forces two models (or one) along given tokens and compares every position.
class ForcedRun {
 public:
  /// `source` may be null. The models must agree on vocabulary, layers and width. `longest`: tokens
  /// of the longest sample. Errors: kExhausted (memory); kInvalidArgument when the models differ in
  /// shape.
  static Result<ForcedRun> create(Model* source, Model& model, std::int64_t longest,
                                  ThreadPool& pool);

  /// One sample's totals. Errors: those of Model::forward().
  Result<Totals> run(std::span<const TokenId> tokens);

 private:
  class Recorder;
  /// One model with its cache, its logits and what its layers said about the chunk in flight.
  struct Side {
    Model* model = nullptr;
    std::unique_ptr<KvCache> cache;
    Buffer logits;
    std::vector<float> host_logits;                  ///< [chunk, vocab]
    std::vector<std::vector<float>> outputs;         ///< [layers] of [chunk, hidden]
    std::vector<std::vector<std::int32_t>> experts;  ///< [layers] of [chunk, top_k]
  };

  static Result<Side> make_side(Model& model, std::int64_t longest);
  static Status step(Side& side, CacheSeq seq, std::span<const TokenId> tokens,
                     std::int64_t position);
  void compare_layers(std::size_t layer, LayerSums& sums) const;

  std::vector<Side> sides_;  ///< the model, then the source
  ThreadPool* pool_ = nullptr;
};

}  // namespace gem8::eval
