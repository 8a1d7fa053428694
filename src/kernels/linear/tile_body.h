#pragma once

#include "kernels/linear/linear.h"

// The tile kernels of one ISA, generic over an arithmetic (arith_*.h). Include a vec_*.h first. For
// ISA files only.
namespace gem8 {
namespace {

/// Columns [begin, end) of K for one tile. Accumulators start from zero in the first range, and
/// between ranges they rest in `saved`.
struct Columns {
  std::int64_t begin;
  std::int64_t end;
  bool first;
  bool last;
};

/// T tokens by R weight rows at once. Arith gives the types, the loads and the step along K. Each
/// of the T * R accumulators runs over K in the same steps and ends in the same tree, so neither T
/// and R nor the cut of K into ranges (at whole steps) change a bit of any result.
template <class Arith, int T, int R, bool kPrefetch>
inline void tile(const void* const* x, const typename Arith::W* w, std::int64_t stride,
                 const Columns& columns, float* saved, float* sums, std::int64_t sums_stride) {
  static_assert(R % 4 == 0 || R == 1);
  using X = typename Arith::X;
  const typename Arith::Constants constants = Arith::constants();
  Vec acc[T][R];
#pragma GCC unroll 16
  for (int t = 0; t < T; ++t) {
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r)
      acc[t][r] = columns.first ? splat(0.0f) : load(saved + (t * R + r) * Vec::kLanes, Full{});
  }
  std::int64_t i = columns.begin;
  for (; i + Arith::kStep <= columns.end; i += Arith::kStep) {
    if constexpr (Arith::kWeightsFirst) {
      // All weights of the step, then one token after the other: R + T loads for R * T products.
      typename Arith::WVec weights[R];
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) {
        if constexpr (kPrefetch)
          _mm_prefetch(reinterpret_cast<const char*>(w + (r + R) * stride + i), _MM_HINT_T0);
        weights[r] = Arith::load_w(constants, w + r * stride + i);
      }
#pragma GCC unroll 16
      for (int t = 0; t < T; ++t) {
        const auto value = Arith::load_x(static_cast<const X*>(x[t]) + i);
#pragma GCC unroll 16
        for (int r = 0; r < R; ++r) acc[t][r] = Arith::dot(acc[t][r], value, weights[r]);
      }
    } else {
      // Weights that need decoding: one row after the other keeps few of them alive; tokens are few
      // here.
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) {
        // The next rows' same columns: one tile ahead, which is far enough and inside this weight
        // or just behind it.
        if constexpr (kPrefetch)
          _mm_prefetch(reinterpret_cast<const char*>(w + (r + R) * stride + i), _MM_HINT_T0);
        const auto weights = Arith::load_w(constants, w + r * stride + i);
#pragma GCC unroll 16
        for (int t = 0; t < T; ++t)
          acc[t][r] =
              Arith::dot(acc[t][r], Arith::load_x(static_cast<const X*>(x[t]) + i), weights);
      }
    }
  }
  if (i < columns.end) {
    const std::int64_t rest = columns.end - i;
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      const auto weights = Arith::load_w_part(constants, w + r * stride + i, rest);
#pragma GCC unroll 16
      for (int t = 0; t < T; ++t) {
        acc[t][r] = Arith::dot_part(
            acc[t][r], Arith::load_x_part(static_cast<const X*>(x[t]) + i, rest), weights, rest);
      }
    }
  }
#pragma GCC unroll 16
  for (int t = 0; t < T; ++t) {
    if (!columns.last) {
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) store(saved + (t * R + r) * Vec::kLanes, acc[t][r], Full{});
    } else if constexpr (R == 1) {
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

/// Fetches the weights that follow into L2, some lines per tile, so that their memory time hides
/// behind this call's arithmetic.
struct Ahead {
  const char* at = nullptr;
  std::int64_t lines_left = 0;
  std::int64_t lines_per_tile = 0;

  void step() {
    const std::int64_t n = lines_left < lines_per_tile ? lines_left : lines_per_tile;
    for (std::int64_t i = 0; i < n; ++i) _mm_prefetch(at + i * 64, _MM_HINT_T1);
    at += n * 64;
    lines_left -= n;
  }
};

/// Weight rows that share one pass over a token group's ranges of K; bounds the resting
/// accumulators.
constexpr std::int64_t kPanelRows = 48;
/// Columns of a range: the rows of a tile (ten at most) and the next tile's weights then fit 48 KiB
/// of L1 as BF16.
constexpr std::int64_t kRangeColumns = 1408;

/// T tokens by a panel of rows: R at a time, then 4, then 1.
template <class Arith, int T, int R, bool kPrefetch>
inline void panel(const DotCall& call, const void* const* x, const typename Arith::W* w,
                  std::int64_t stride, std::int64_t n_rows, float* sums, Ahead& ahead) {
  alignas(64) float saved[kPanelRows * T * Vec::kLanes];
  // Weights straight from memory are read row by row to the end; ranges are for those that wait in
  // a cache.
  const std::int64_t range = kPrefetch ? call.k : kRangeColumns;
  for (std::int64_t begin = 0; begin < call.k || begin == 0; begin += range) {
    const Columns columns{begin, begin + range < call.k ? begin + range : call.k, begin == 0,
                          begin + range >= call.k};
    std::int64_t r = 0;
    const auto rest = [&](std::int64_t row) { return saved + row * T * Vec::kLanes; };
    for (; r + R <= n_rows; r += R) {
      ahead.step();
      tile<Arith, T, R, kPrefetch>(x, w + r * stride, stride, columns, rest(r), sums + r,
                                   call.sums_stride);
    }
    if constexpr (R > 4) {
      for (; r + 4 <= n_rows; r += 4) {
        tile<Arith, T, 4, kPrefetch>(x, w + r * stride, stride, columns, rest(r), sums + r,
                                     call.sums_stride);
      }
    }
    for (; r < n_rows; ++r) {
      tile<Arith, T, 1, kPrefetch>(x, w + r * stride, stride, columns, rest(r), sums + r,
                                   call.sums_stride);
    }
    if (columns.last) break;
  }
}

/// All tokens by n_rows rows, tokens in groups of up to kMaxTokens of nearly equal size (7 are 4 +
/// 3, not 6 + 1). Rows per tile fill the registers.
template <class Arith, bool kPrefetch>
inline void panel_of_tokens(const DotCall& call, const typename Arith::W* w, std::int64_t stride,
                            std::int64_t n_rows, float* all_sums, Ahead& ahead) {
  const std::int64_t groups = (call.n_tokens + Arith::kMaxTokens - 1) / Arith::kMaxTokens;
  std::int64_t t = 0;
  for (std::int64_t group = 0; group < groups; ++group) {
    const std::int64_t n = (call.n_tokens - t) / (groups - group);
    const void* const* x = call.x + t;
    float* sums = all_sums + t * call.sums_stride;
    if (n == 1)
      panel<Arith, 1, Arith::kRows[0], kPrefetch>(call, x, w, stride, n_rows, sums, ahead);
    if (n == 2)
      panel<Arith, 2, Arith::kRows[1], kPrefetch>(call, x, w, stride, n_rows, sums, ahead);
    if (n == 3)
      panel<Arith, 3, Arith::kRows[2], kPrefetch>(call, x, w, stride, n_rows, sums, ahead);
    if constexpr (Arith::kMaxTokens > 3) {
      if (n == 4)
        panel<Arith, 4, Arith::kRows[3], kPrefetch>(call, x, w, stride, n_rows, sums, ahead);
    }
    if constexpr (Arith::kMaxTokens > 4) {
      if (n == 5) panel<Arith, 5, 4, kPrefetch>(call, x, w, stride, n_rows, sums, ahead);
      if (n == 6) panel<Arith, 6, 4, kPrefetch>(call, x, w, stride, n_rows, sums, ahead);
    }
    t += n;
  }
}

/// Everything a call asks for, `w` being its weights as this arithmetic reads them.
template <class Arith, bool kPrefetch>
inline void dot_with(const DotCall& call, const typename Arith::W* w, std::int64_t stride) {
  Ahead ahead;
  if (call.next != nullptr && !kPrefetch) {
    const std::int64_t groups = (call.n_tokens + Arith::kMaxTokens - 1) / Arith::kMaxTokens;
    const std::int64_t ranges = (call.k + kRangeColumns - 1) / kRangeColumns;
    const std::int64_t tiles =
        groups * ranges *
        ((call.n_rows + 7) / 8);  // tiles have 8 rows at most: never too few lines each
    ahead = {static_cast<const char*>(call.next), call.next_bytes / 64,
             call.next_bytes / 64 / tiles + 1};
  }
  for (std::int64_t r = 0; r < call.n_rows; r += kPanelRows) {
    const std::int64_t n_rows = call.n_rows - r < kPanelRows ? call.n_rows - r : kPanelRows;
    panel_of_tokens<Arith, kPrefetch>(call, w + r * stride, stride, n_rows, call.sums + r, ahead);
  }
}

}  // namespace
}  // namespace gem8
