#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "foundation/thread_pool.h"
#include "kernels/ops.h"

namespace gem8 {

/// The angles of one step: cos and sin of position * inv_freq (product in F32, as the reference
/// implementation forms it), rounded to `dtype`. Computed once for a list of positions and a table,
/// then reused by every layer of the step.
class RopeCache {
 public:
  struct Angles {
    const float* cos;
    const float* sin;
  };
  Angles angles(ThreadPool& pool, std::span<const std::int32_t> positions, const RopeTable& table,
                DType dtype);

 private:
  struct Entry {
    const float* inv_freq = nullptr;
    std::int64_t head_dim = 0;
    std::vector<std::int32_t> positions;
    std::vector<float> values;
  };
  Entry entries_[2];
  int next_ = 0;
};

}  // namespace gem8
