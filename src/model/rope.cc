#include "model/rope.h"

#include <cmath>
#include <cstddef>

#include "formats/model_config.h"

namespace gem8 {

int rotated_pairs(const RopeConfig& rope, int head_dim) {
  return static_cast<int>(std::floor(rope.partial_rotary_factor * head_dim / 2));
}

std::vector<float> rope_frequencies(const RopeConfig& rope, int head_dim) {
  std::vector<float> inv_freq(static_cast<std::size_t>(head_dim / 2), 0.0f);
  const auto theta = static_cast<float>(rope.theta);
  const int pairs = rotated_pairs(rope, head_dim);
  for (int j = 0; j < pairs; ++j) {
    const float exponent = static_cast<float>(2 * j) / static_cast<float>(head_dim);
    inv_freq[static_cast<std::size_t>(j)] =
        1.0f / std::pow(theta, exponent) / static_cast<float>(rope.factor);
  }
  return inv_freq;
}

}  // namespace gem8
