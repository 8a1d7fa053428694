#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "formats/checkpoint.h"
#include "foundation/thread_pool.h"

namespace gem8 {

struct TowerPlan {
  std::vector<int> budgets{280};  ///< of soft tokens, for a picture of 4 by 3
  std::vector<int> images{1};     ///< pictures of one pass; 0: no pass
  int rounds = 7;
};

/// Medians over rounds in which the ceiling was measured directly before and the pass directly
/// after.
struct TowerSpeed {
  std::int64_t soft_tokens = 0;  ///< of each picture
  std::int64_t images = 0;       ///< of a pass
  double images_s = 0.0;
  double tok_s = 0.0;  ///< soft tokens
  double gflops = 0.0;
  double share = 0.0;  ///< of the bf16 multiply-add peak
};

/// Measures the image tower on this machine, bf16 activations, random pixels; empty for a
/// checkpoint without one. Errors: those of loading a tower and of a pass.
Result<std::vector<TowerSpeed>> measure_tower(
    std::shared_ptr<const Checkpoint> checkpoint, ThreadPool& pool, const TowerPlan& plan,
    const std::function<void(const std::string&)>& progress);

}  // namespace gem8
