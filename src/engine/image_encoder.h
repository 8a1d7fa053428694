#pragma once

#include <atomic>
#include <cstdint>

#include "engine/model_runner.h"
#include "engine/scheduler.h"
#include "foundation/lru_cache.h"

namespace gem8 {

/// Whether the chunk has the image: blocks are never split, so one that begins in it ends in it.
bool begins_in(const PromptImage& image, const PlannedChunk& chunk);

/// Makes the soft tokens of images when their turn comes, and remembers those of the last ones by
/// content. Of the engine's thread, but for the counts.
class ImageEncoder {
 public:
  /// `runner` outlives this; see EngineOptions for the limits.
  ImageEncoder(ModelRunner& runner, std::size_t cache_bytes, std::int64_t max_pass_patches)
      : runner_(runner), max_pass_patches_(max_pass_patches), cache_(cache_bytes) {}

  /// Fills in the sequence's soft tokens that the chunk needs: an image costs time when its turn
  /// comes, not all of a request's images before its first step. Those of one chunk share passes of
  /// the tower. Errors: ModelRunner::encode()'s.
  Status encode(const PlannedChunk& chunk);

  std::int64_t asked() const { return asked_; }    ///< images that chunks needed
  std::int64_t cached() const { return cached_; }  ///< of these, those that were there already

 private:
  ModelRunner& runner_;
  std::int64_t max_pass_patches_;
  LruCache<const SoftTokenMatrix> cache_;
  std::atomic<std::int64_t> asked_{0};
  std::atomic<std::int64_t> cached_{0};
};

}  // namespace gem8
