#pragma once

#include <memory>
#include <span>
#include <vector>

#include "foundation/result.h"
#include "foundation/thread_pool.h"
#include "foundation/token_id.h"
#include "model/model.h"
#include "quantize/eval/divergence.h"
#include "quantize/token_sample.h"

namespace gem8::eval {

/// Forces two models (or one) along given samples and compares every position that predicts a
/// token. Positions before a picture's soft tokens predict none: no model learns to.
class ForcedRun {
 public:
  /// `source.model` may be null. The models must agree on vocabulary, layers and width. `longest`:
  /// tokens of the longest sample; `largest_image`: soft tokens of the largest picture. Errors:
  /// kExhausted (memory); kInvalidArgument when the models differ in shape.
  static Result<ForcedRun> create(SeeingModel source, SeeingModel model, std::int64_t longest,
                                  std::int64_t largest_image, ThreadPool& pool);

  /// One sample's totals; each model sees its pictures with its own tower. Errors: those of
  /// Model::forward() and encode_image(); kInvalidArgument for a picture where there is no tower.
  Result<Totals> run(const TokenSample& sample);

 private:
  class Recorder;
  /// One model with its cache, its logits and what its layers said about the chunk in flight.
  struct Side {
    Model* model = nullptr;
    VisionTower* tower = nullptr;
    std::unique_ptr<KvCache> cache;
    Buffer logits;
    std::vector<float> host_logits;                  ///< [rows with logits, vocab]
    std::vector<std::vector<float>> outputs;         ///< [layers] of [chunk, hidden]
    std::vector<std::vector<std::int32_t>> experts;  ///< [layers] of [chunk, top_k]
  };

  static Result<Side> make_side(SeeingModel model, std::int64_t longest,
                                std::int64_t largest_image);
  static Status step(Side& side, CacheSeq seq, const TokenSample& sample, const SamplePiece& piece);
  /// Adds what the rows of a piece that have logits say.
  void compare_rows(const TokenSample& sample, const SamplePiece& piece, Totals& totals) const;
  void compare_layers(std::size_t layer, LayerSums& sums) const;

  std::vector<Side> sides_;  ///< the model, then the source
  ThreadPool* pool_ = nullptr;
};

}  // namespace gem8::eval
