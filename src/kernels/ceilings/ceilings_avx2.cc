#include <immintrin.h>

#include "kernels/ceilings/ceilings.h"

namespace gem8 {
namespace {

std::uint64_t read(const void* data, std::size_t bytes) noexcept {
  const auto* p = static_cast<const char*>(data);
  __m256i sums[8];
#pragma GCC unroll 8
  for (int j = 0; j < 8; ++j) sums[j] = _mm256_setzero_si256();
  for (std::size_t i = 0; i < bytes; i += 256) {
    _mm_prefetch(p + i + 4096, _MM_HINT_T0);
    _mm_prefetch(p + i + 4160, _MM_HINT_T0);
    _mm_prefetch(p + i + 4224, _MM_HINT_T0);
    _mm_prefetch(p + i + 4288, _MM_HINT_T0);
#pragma GCC unroll 8
    for (int j = 0; j < 8; ++j) {
      const auto* from = reinterpret_cast<const __m256i*>(p + i + static_cast<std::size_t>(32 * j));
      sums[j] = _mm256_xor_si256(sums[j], _mm256_loadu_si256(from));
    }
  }
#pragma GCC unroll 8
  for (int j = 1; j < 8; ++j) sums[0] = _mm256_xor_si256(sums[0], sums[j]);
  const __m128i half =
      _mm_xor_si128(_mm256_castsi256_si128(sums[0]), _mm256_extracti128_si256(sums[0], 1));
  return static_cast<std::uint64_t>(_mm_extract_epi64(half, 0) ^ _mm_extract_epi64(half, 1));
}

double multiply(std::int64_t rounds) noexcept {
  constexpr int kChains = 12;
  const __m256 x = _mm256_set1_ps(1.0f);
  __m256 sums[kChains];
#pragma GCC unroll 12
  for (int j = 0; j < kChains; ++j) sums[j] = _mm256_setzero_ps();
  for (std::int64_t round = 0; round < rounds; ++round) {
#pragma GCC unroll 12
    for (int j = 0; j < kChains; ++j) {
      sums[j] = _mm256_fmadd_ps(x, x, sums[j]);
      asm volatile("" : "+x"(sums[j]));  // each product is made, none is folded
    }
  }
  return static_cast<double>(rounds) * kChains * 8 * 2;
}

}  // namespace

extern const CeilingKernel ceilings_avx2;
const CeilingKernel ceilings_avx2 = {read, multiply};

}  // namespace gem8
