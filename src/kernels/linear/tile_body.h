#pragma once

#include "kernels/linear/linear.h"

// The tile kernels of one ISA, generic over an arithmetic (arith_*.h). Include a vec_*.h first. For
// ISA files only.
namespace gem8 {
namespace {

/// T tokens by R weight rows at once. Arith gives the types, the loads and the step along K. Each
/// of the T * R accumulators runs over K in the same steps and ends in the same tree, so T and R
/// change no bit of any result.
template <class Arith, int T, int R, bool kPrefetch>
inline void tile(const void* const* x, const typename Arith::W* w, std::int64_t stride,
                 std::int64_t k, float* sums, std::int64_t sums_stride) {
  static_assert(R % 4 == 0 || R == 1);
  using X = typename Arith::X;
  const typename Arith::Constants constants = Arith::constants();
  Vec acc[T][R];
#pragma GCC unroll 16
  for (int t = 0; t < T; ++t) {
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) acc[t][r] = splat(0.0f);
  }
  std::int64_t i = 0;
  for (; i + Arith::kStep <= k; i += Arith::kStep) {
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      // The next rows' same columns: one tile ahead, which is far enough and always inside this
      // weight or just behind it.
      if constexpr (kPrefetch)
        _mm_prefetch(reinterpret_cast<const char*>(w + (r + R) * stride + i), _MM_HINT_T0);
      const auto weights = Arith::load_w(constants, w + r * stride + i);
#pragma GCC unroll 16
      for (int t = 0; t < T; ++t)
        acc[t][r] = Arith::dot(acc[t][r], Arith::load_x(static_cast<const X*>(x[t]) + i), weights);
    }
  }
  if (i < k) {
    const std::int64_t rest = k - i;
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      const auto weights = Arith::load_w_part(constants, w + r * stride + i, rest);
#pragma GCC unroll 16
      for (int t = 0; t < T; ++t) {
        acc[t][r] = Arith::dot(acc[t][r], Arith::load_x_part(static_cast<const X*>(x[t]) + i, rest),
                               weights);
      }
    }
  }
#pragma GCC unroll 16
  for (int t = 0; t < T; ++t) {
    if constexpr (R == 1) {
      sums[t * sums_stride] = reduce_add(acc[t][0]);
    } else {
#pragma GCC unroll 16
      for (int r = 0; r < R; r += 4) {
        _mm_storeu_ps(sums + t * sums_stride + r,
                      reduce_add4(acc[t][r], acc[t][r + 1], acc[t][r + 2], acc[t][r + 3]));
      }
    }
  }
}

/// T tokens by all rows: R at a time, then 4, then 1.
template <class Arith, int T, int R, bool kPrefetch>
inline void rows_of_tokens(const DotCall& call, const void* const* x, const typename Arith::W* w,
                           std::int64_t stride, float* sums) {
  std::int64_t r = 0;
  for (; r + R <= call.n_rows; r += R)
    tile<Arith, T, R, kPrefetch>(x, w + r * stride, stride, call.k, sums + r, call.sums_stride);
  if constexpr (R > 4) {
    for (; r + 4 <= call.n_rows; r += 4)
      tile<Arith, T, 4, kPrefetch>(x, w + r * stride, stride, call.k, sums + r, call.sums_stride);
  }
  for (; r < call.n_rows; ++r)
    tile<Arith, T, 1, kPrefetch>(x, w + r * stride, stride, call.k, sums + r, call.sums_stride);
}

/// All tokens, in groups of up to kMaxTokens of nearly equal size (7 are 4 + 3, not 6 + 1). Rows
/// per tile fill the registers.
template <class Arith, bool kPrefetch>
inline void dot_with(const DotCall& call, const typename Arith::W* w, std::int64_t stride) {
  const std::int64_t groups = (call.n_tokens + Arith::kMaxTokens - 1) / Arith::kMaxTokens;
  std::int64_t t = 0;
  for (std::int64_t group = 0; group < groups; ++group) {
    const std::int64_t n = (call.n_tokens - t) / (groups - group);
    const void* const* x = call.x + t;
    float* sums = call.sums + t * call.sums_stride;
    if (n == 1) rows_of_tokens<Arith, 1, Arith::kRows[0], kPrefetch>(call, x, w, stride, sums);
    if (n == 2) rows_of_tokens<Arith, 2, Arith::kRows[1], kPrefetch>(call, x, w, stride, sums);
    if (n == 3) rows_of_tokens<Arith, 3, Arith::kRows[2], kPrefetch>(call, x, w, stride, sums);
    if constexpr (Arith::kMaxTokens > 3) {
      if (n == 4) rows_of_tokens<Arith, 4, Arith::kRows[3], kPrefetch>(call, x, w, stride, sums);
    }
    if constexpr (Arith::kMaxTokens > 4) {
      if (n == 5) rows_of_tokens<Arith, 5, 4, kPrefetch>(call, x, w, stride, sums);
      if (n == 6) rows_of_tokens<Arith, 6, 4, kPrefetch>(call, x, w, stride, sums);
    }
    t += n;
  }
}

}  // namespace
}  // namespace gem8
