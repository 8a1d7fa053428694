// In this order: the vectors, what is written over them, the family.
#include "kernels/simd/vec_avx2.h"

#include "kernels/simd/math.h"

#include "kernels/linear/arith_avx2.h"

#include "kernels/linear/linear_body.h"

namespace gem8 {
namespace {

/// Rows of E4M3 as BF16 (exact), rows padded to a multiple of 64.
void unpack_rows(const DotCall& call, std::int64_t stride) {
  for (std::int64_t r = 0; r < call.n_rows; ++r) {
    const auto* codes = static_cast<const std::uint8_t*>(call.w) + r * call.k;
    auto* to = static_cast<std::uint16_t*>(call.unpack) + r * stride;
    for_lanes(call.k, [&](std::int64_t i, auto part) {
      store(to + i, load_weight(codes + i, part), part);
    });
  }
}

constexpr std::int64_t kDirectTokens = 3;

template <class X>
void dot_of(const DotCall& call) {
  const std::int64_t padded = (call.k + 63) / 64 * 64;
  if (call.w_dtype == DType::kF8E4M3) {
    if (call.n_tokens <= kDirectTokens) {
      return dot_with<F32Arith<X, std::uint8_t>, true>(
          call, static_cast<const std::uint8_t*>(call.w), call.k);
    }
    unpack_rows(call, padded);
    return dot_with<F32Arith<X, std::uint16_t>, false>(
        call, static_cast<const std::uint16_t*>(call.unpack), padded);
  }
  if (call.w_dtype == DType::kF32)
    return dot_with<F32Arith<X, float>, false>(call, static_cast<const float*>(call.w), call.k);
  dot_with<F32Arith<X, std::uint16_t>, true>(call, static_cast<const std::uint16_t*>(call.w),
                                             call.k);
}

void dot(const DotCall& call) noexcept {
  call.x_dtype == DType::kF32 ? dot_of<float>(call) : dot_of<std::uint16_t>(call);
}

}  // namespace

extern const LinearKernel linear_avx2;
const LinearKernel linear_avx2 = {dot, store_sums, store_gated, quantize, combine};

}  // namespace gem8
