#include <immintrin.h>

#include "kernels/ceilings/ceilings.h"

namespace gem8 {
namespace {

std::uint64_t read(const void* data, std::size_t bytes) noexcept {
  const auto* p = static_cast<const char*>(data);
  __m512i sums[8];
#pragma GCC unroll 8
  for (int j = 0; j < 8; ++j) sums[j] = _mm512_setzero_si512();
  for (std::size_t i = 0; i < bytes; i += 512) {
#pragma GCC unroll 8
    for (int j = 0; j < 8; ++j) {
      _mm_prefetch(p + i + 64 * j + 4096, _MM_HINT_T0);
      sums[j] = _mm512_xor_si512(sums[j], _mm512_loadu_si512(p + i + 64 * j));
    }
  }
#pragma GCC unroll 8
  for (int j = 1; j < 8; ++j) sums[0] = _mm512_xor_si512(sums[0], sums[j]);
  return static_cast<std::uint64_t>(_mm512_reduce_add_epi64(sums[0]));
}

double multiply(std::int64_t rounds) noexcept {
  constexpr int kChains = 24;  // as many accumulators as the largest tile
  const __m512bh x = (__m512bh)_mm512_set1_epi16(0x3f80);
  __m512 sums[kChains];
#pragma GCC unroll 24
  for (int j = 0; j < kChains; ++j) sums[j] = _mm512_setzero_ps();
  for (std::int64_t round = 0; round < rounds; ++round) {
#pragma GCC unroll 24
    for (int j = 0; j < kChains; ++j) {
      sums[j] = _mm512_dpbf16_ps(sums[j], x, x);
      asm volatile("" : "+v"(sums[j]));  // each product is made, none is folded
    }
  }
  return static_cast<double>(rounds) * kChains * 32 * 2;
}

}  // namespace

extern const CeilingKernel ceilings_avx512bf16;
const CeilingKernel ceilings_avx512bf16 = {read, multiply};

}  // namespace gem8
