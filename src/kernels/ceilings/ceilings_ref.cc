#include <cstring>

#include "kernels/ceilings/ceilings.h"

namespace gem8 {
namespace {

std::uint64_t read(const void* data, std::size_t bytes) noexcept {
  std::uint64_t sum = 0;
  for (std::size_t i = 0; i + 8 <= bytes; i += 8) {
    std::uint64_t word;
    std::memcpy(&word, static_cast<const std::byte*>(data) + i, 8);
    sum ^= word;
  }
  return sum;
}

double multiply(std::int64_t rounds) noexcept {
  constexpr int kChains = 8;
  volatile float factor = 1.0001f;
  const float x = factor;
  float sums[kChains] = {};
  for (std::int64_t round = 0; round < rounds; ++round) {
    for (float& sum : sums) sum = sum * x + x;
  }
  float total = 0.0f;
  for (const float sum : sums) total += sum;
  factor = total;
  return static_cast<double>(rounds) * kChains * 2;
}

}  // namespace

extern const CeilingKernel ceilings_ref;
const CeilingKernel ceilings_ref = {read, multiply};

}  // namespace gem8
