#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "formats/checkpoint.h"
#include "foundation/thread_pool.h"

namespace gem8 {

struct SpeedPlan {
  std::vector<std::int64_t> batches{1, 4, 16};
  std::vector<std::int64_t> depths{0};
  std::vector<std::int64_t> prompts{512};
  int rounds = 7;  ///< of each measurement, each beside its ceiling; medians are reported
};

/// Medians over rounds in which the ceiling was measured directly before and the work directly
/// after.
struct DecodeSpeed {
  std::int64_t batch = 0;
  std::int64_t depth = 0;
  double tok_s = 0.0;
  double bytes_per_token =
      0.0;  ///< weights read by a step (experts chosen by any of its tokens) / batch
  double gbps = 0.0;
  double share = 0.0;  ///< of the read ceiling
};
struct PrefillSpeed {
  std::int64_t tokens = 0;
  double tok_s = 0.0;
  double gflops = 0.0;
  double share = 0.0;  ///< of the bf16 multiply-add peak
};
struct Speed {
  double read_gbps = 0.0;
  double bf16_gflops = 0.0;
  std::vector<DecodeSpeed> decode;
  std::vector<PrefillSpeed> prefill;
};

/// Measures the model on this machine, bf16 activations, random tokens; `progress` is called with a
/// line now and then. Errors: those of loading a model; kExhausted when caches do not fit.
Result<Speed> measure_speed(std::shared_ptr<const Checkpoint> checkpoint, ThreadPool& pool,
                            const SpeedPlan& plan,
                            const std::function<void(const std::string&)>& progress);

}  // namespace gem8
