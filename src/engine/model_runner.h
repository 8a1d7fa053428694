#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "foundation/result.h"
#include "model/batch.h"
#include "model/kv_cache.h"
#include "model/vision/tower.h"

namespace gem8 {

class Model;

/// Pages of the two groups of layers.
struct CachePages {
  std::int64_t sliding = 0;
  std::int64_t full = 0;
};

/// The engine's view of a model with its cache: sequences, pages, steps, logits. The one seam where
/// a test puts another model. Called by one thread at a time, but for copy_logits().
class ModelRunner {
 public:
  virtual ~ModelRunner() = default;

  virtual std::int64_t vocab() const = 0;
  virtual std::int64_t hidden() const = 0;
  virtual std::int64_t max_batch_tokens() const = 0;

  virtual CachePages total_pages() const = 0;
  virtual CachePages used_pages() const = 0;
  /// What a sequence of n_tokens holds at most when no step adds more than max_chunk tokens to it.
  virtual CachePages pages_for(std::int64_t n_tokens, std::int64_t max_chunk) const = 0;

  virtual CacheSeq open() = 0;
  virtual void close(CacheSeq seq) = 0;

  /// The soft tokens of each image, where forward() can read them; one pass for all. Errors:
  /// kUnsupported for a model without a tower, and the tower's.
  virtual Result<std::vector<SoftTokenMatrix>> encode(std::span<const Patches* const> images) = 0;

  /// One step; afterwards the batch's logit rows can be read until the next. Errors leave
  /// everything as it was.
  virtual Status forward(const Batch& batch) = 0;
  /// `to` [vocab] := logit row i of the last step. May be called by several threads at a time.
  virtual void copy_logits(std::int64_t row, std::span<float> to) const = 0;
};

/// The real one. What is referred to must outlive it; without a tower, `tower` is null.
std::unique_ptr<ModelRunner> make_model_runner(Model& model, KvCache& cache,
                                               const KvCacheCost& cost,
                                               VisionTower* tower = nullptr);

}  // namespace gem8
