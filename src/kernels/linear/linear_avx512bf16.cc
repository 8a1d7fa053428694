// In this order: the vectors, what is written over them, the family.
#include "kernels/simd/vec_avx512.h"

#include "kernels/simd/math.h"

#include "kernels/linear/arith_avx512bf16.h"

#include "kernels/linear/linear_body.h"

namespace gem8 {
namespace {

/// Rows of E4M3 as rows of BF16, each padded with zeros to a whole number of steps.
void unpack_rows(const DotCall& call, std::int64_t stride) {
  const E4M3Tables tables = e4m3_tables();
  for (std::int64_t r = 0; r < call.n_rows; ++r) {
    const auto* codes = static_cast<const std::uint8_t*>(call.w) + r * call.k;
    auto* to = static_cast<std::uint16_t*>(call.unpack) + r * stride;
    for (std::int64_t i = 0; i < call.k; i += 64) {
      const Pair pair = decode(tables, _mm512_maskz_loadu_epi8(mask64(call.k - i), codes + i));
      _mm512_store_si512(to + i, (__m512i)pair.lower);
      _mm512_store_si512(to + i + 32, (__m512i)pair.upper);
    }
  }
}

/// Up to this many tokens, one tile's, weights come straight from memory and are decoded as they
/// are loaded, which hides behind the products. Above it they are decoded once into L2 and used
/// from there.
constexpr std::int64_t kDirectTokens = 8;

void dot(const DotCall& call) noexcept {
  const auto* w16 = static_cast<const std::uint16_t*>(call.w);
  const std::int64_t padded = (call.k + 63) / 64 * 64;
  if (call.w_dtype == DType::kF8E4M3) {
    if (call.x_dtype == DType::kBF16 && call.n_tokens <= kDirectTokens) {
      return dot_with<Bf16ByE4M3, true>(call, static_cast<const std::uint8_t*>(call.w), call.k);
    }
    unpack_rows(call, padded);
    w16 = static_cast<const std::uint16_t*>(call.unpack);
    if (call.x_dtype == DType::kF32)
      return dot_with<F32Arith<float, std::uint16_t>, false>(call, w16, padded);
    return dot_with<Bf16ByBf16, false>(call, w16, padded);
  }
  if (call.w_dtype == DType::kF32) {
    const auto* w32 = static_cast<const float*>(call.w);
    if (call.x_dtype == DType::kF32)
      return dot_with<F32Arith<float, float>, false>(call, w32, call.k);
    return dot_with<F32Arith<std::uint16_t, float>, false>(call, w32, call.k);
  }
  if (call.x_dtype == DType::kF32)
    return dot_with<F32Arith<float, std::uint16_t>, false>(call, w16, call.k);
  if (call.n_tokens <= kDirectTokens) return dot_with<Bf16ByBf16, true>(call, w16, call.k);
  dot_with<Bf16ByBf16, false>(call, w16, call.k);
}

}  // namespace

extern const LinearKernel linear_avx512bf16;
const LinearKernel linear_avx512bf16 = {dot, store_sums, store_gated, quantize, combine};

}  // namespace gem8
