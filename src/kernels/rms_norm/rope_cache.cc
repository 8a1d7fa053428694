#include "kernels/rms_norm/rope_cache.h"

#include <algorithm>
#include <cmath>

#include "kernels/context.h"

namespace gem8 {

RopeCache::Angles RopeCache::angles(ThreadPool& pool, std::span<const std::int32_t> positions,
                                    const RopeTable& table, DType dtype) {
  const auto half = static_cast<std::size_t>(table.head_dim / 2);
  const std::size_t count = positions.size() * half;
  for (const Entry& entry : entries_) {
    if (entry.inv_freq == table.inv_freq && entry.head_dim == table.head_dim &&
        std::ranges::equal(entry.positions, positions)) {
      return {entry.values.data(), entry.values.data() + count};
    }
  }
  // Two layer types alternate, each with its table: prefer to replace the entry of the same table.
  int slot = next_;
  for (int i = 0; i < 2; ++i) {
    if (entries_[i].inv_freq == table.inv_freq && entries_[i].head_dim == table.head_dim) slot = i;
  }
  next_ = 1 - slot;
  Entry& entry = entries_[slot];
  entry.inv_freq = table.inv_freq;
  entry.head_dim = table.head_dim;
  entry.positions.assign(positions.begin(), positions.end());
  if (entry.values.size() < 2 * count) entry.values.resize(2 * count);
  float* cos = entry.values.data();
  float* sin = cos + count;
  for_ranges(pool, positions.size(), rows_per_chunk(table.head_dim, 4096),
             [&](std::size_t begin, std::size_t end, std::size_t) {
               for (std::size_t row = begin; row < end; ++row) {
                 for (std::size_t lane = 0; lane < half; ++lane) {
                   const double angle = static_cast<float>(positions[row]) * table.inv_freq[lane];
                   const auto c = static_cast<float>(std::cos(angle));
                   const auto s = static_cast<float>(std::sin(angle));
                   cos[row * half + lane] = dtype == DType::kF32 ? c : round_to_bf16(c);
                   sin[row * half + lane] = dtype == DType::kF32 ? s : round_to_bf16(s);
                 }
               }
             });
  return {cos, sin};
}

}  // namespace gem8
