#pragma once

#include "kernels/linear/linear.h"

// The tile kernels of one ISA, generic over an arithmetic (arith_*.h). Include a vec_*.h first. For
// ISA files only.
namespace gem8 {
namespace {

/// How a tile brings its weights near.
enum class Fetch {
  kNone,    ///< they wait in a cache
  kStream,  ///< rows read to their ends straight from memory: what follows in memory goes to L1
  kStaged,  ///< rows read from memory in ranges of columns: what follows in memory goes to L2, and
            ///< from there the next tile's part to L1
};

/// Columns [begin, end) of K for one tile. Accumulators start from zero in the first range, and
/// between ranges they rest in `saved`.
struct Columns {
  std::int64_t begin;
  std::int64_t end;
  bool first;
  bool last;
};

/// Where a tile prefetches: `far` follows in memory, `near` is the next tile's first weight.
struct Targets {
  const char* far = nullptr;
  const char* near = nullptr;
};

/// The prefetches of one step of R rows at column i, once for each 64 bytes of a row.
template <class Arith, int R, Fetch kFetch>
inline void fetch(Targets& to, std::int64_t i, std::int64_t row_bytes) {
  constexpr std::int64_t kWeightBytes = sizeof(typename Arith::W);
  if constexpr (kFetch == Fetch::kNone) return;
  if constexpr (Arith::kStep * kWeightBytes < 64) {
    if (i * kWeightBytes % 64 != 0) return;
  }
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) {
    if constexpr (kFetch == Fetch::kStream) {
      _mm_prefetch(to.far + 64 * r, _MM_HINT_T0);
    } else if constexpr (kFetch == Fetch::kStaged) {
      _mm_prefetch(to.near + r * row_bytes, _MM_HINT_T0);
      _mm_prefetch(to.far + 64 * r, _MM_HINT_T1);
    }
  }
  to.far += 64 * R;
  to.near += 64;
}

/// Sums of the lanes of T * R accumulators, four at a time in one tree, which is the same for each.
template <int T, int R>
inline void store_lane_sums(const Vec (&acc)[T][R], float* sums, std::int64_t sums_stride) {
  if constexpr (R % 4 == 0) {
#pragma GCC unroll 16
    for (int t = 0; t < T; ++t) {
#pragma GCC unroll 16
      for (int r = 0; r < R; r += 4) {
        _mm_storeu_ps(sums + t * sums_stride + r,
                      reduce_add4(acc[t][r], acc[t][r + 1], acc[t][r + 2], acc[t][r + 3]));
      }
    }
  } else {
    constexpr int kSums = T * R;
    alignas(16) float flat[(kSums + 3) / 4 * 4];
#pragma GCC unroll 16
    for (int i = 0; i < kSums; i += 4) {
      const auto at = [&](int j) { return j < kSums ? acc[j / R][j % R] : acc[0][0]; };
      _mm_store_ps(flat + i, reduce_add4(at(i), at(i + 1), at(i + 2), at(i + 3)));
    }
#pragma GCC unroll 32
    for (int i = 0; i < kSums; ++i) sums[i / R * sums_stride + i % R] = flat[i];
  }
}

/// T tokens by R weight rows at once. Arith gives the types, the loads and the step along K. Each
/// of the T * R accumulators runs over K in the same steps and ends in the same tree, so neither T
/// and R nor the cut of K into ranges (at whole steps) change a bit of any result.
template <class Arith, int T, int R, Fetch kFetch>
inline void tile(const void* const* x, const typename Arith::W* w, std::int64_t stride,
                 const Columns& columns, Targets targets, float* saved, float* sums,
                 std::int64_t sums_stride) {
  using X = typename Arith::X;
  constexpr std::int64_t kWeightBytes = sizeof(typename Arith::W);
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
    fetch<Arith, R, kFetch>(targets, i, stride * kWeightBytes);
    if constexpr (Arith::kWeightsFirst) {
      // All weights of the step, then one token after the other: R + T loads for R * T products.
      typename Arith::WVec weights[R];
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) weights[r] = Arith::load_w(constants, w + r * stride + i);
#pragma GCC unroll 16
      for (int t = 0; t < T; ++t) {
        const auto value = Arith::load_x(static_cast<const X*>(x[t]) + i);
#pragma GCC unroll 16
        for (int r = 0; r < R; ++r) acc[t][r] = Arith::dot(acc[t][r], value, weights[r]);
      }
    } else {
      // One row after the other where registers are few: one weight alive at a time.
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) {
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
  if (columns.last) return store_lane_sums<T, R>(acc, sums, sums_stride);
#pragma GCC unroll 16
  for (int t = 0; t < T; ++t) {
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) store(saved + (t * R + r) * Vec::kLanes, acc[t][r], Full{});
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

/// The weights of a call in memory, and what will be read after them.
struct Stream {
  const char* begin = nullptr;
  std::int64_t bytes = 0;
  const char* next = nullptr;

  /// What lies `offset` bytes from the begin. Where nothing is known to follow, the begin: it is in
  /// a cache and costs no traffic.
  const char* at(std::int64_t offset) const {
    if (offset < bytes) return begin + offset;
    return next == nullptr ? begin : next + (offset - bytes);
  }
};

/// Weight rows that share one pass over a token group's ranges of K; bounds the resting
/// accumulators.
constexpr std::int64_t kPanelRows = 48;
/// Columns of a range: the rows of a tile (ten at most) and the next tile's weights then fit 48 KiB
/// of L1 as BF16.
constexpr std::int64_t kRangeColumns = 1408;
/// How far ahead a stream is read, at least a tile. Measured on Zen 5 (1 token, FP8, huge pages):
/// 97 % of a plain read, against 81 % for a prefetch of the next tile's same columns.
constexpr std::int64_t kStreamBytes = 8192;
/// The same into L2.
constexpr std::int64_t kStagedBytes = std::int64_t{64} << 10;
/// Tokens whose rows stay in L1 beside streamed weights may take this much of it.
constexpr std::int64_t kStreamTokenBytes = std::int64_t{32} << 10;
constexpr std::int64_t kStreamTokens = 4;

/// T tokens by a panel of rows, which begin `offset` bytes into the stream: R at a time, then 1.
template <class Arith, int T, Fetch kFetch>
inline void panel(const DotCall& call, const void* const* x, const typename Arith::W* w,
                  std::int64_t stride, std::int64_t n_rows, float* sums, const Stream& stream,
                  std::int64_t offset, Ahead& ahead) {
  constexpr bool kFromMemory = kFetch != Fetch::kNone;
  constexpr int R = Arith::tile_rows(T, kFromMemory);
  constexpr std::int64_t kWeightBytes = sizeof(typename Arith::W);
  // Streamed rows have one range, so nothing rests.
  alignas(64) float saved[kFetch == Fetch::kStream ? 1 : kPanelRows * T * Vec::kLanes];
  std::int64_t range = kFetch == Fetch::kStream ? call.k : kRangeColumns;
  for (std::int64_t begin = 0; begin < call.k || begin == 0; begin += range) {
    const Columns columns{begin, begin + range < call.k ? begin + range : call.k, begin == 0,
                          begin + range >= call.k};
    const auto tiles = [&]<int kRows>(std::int64_t& r) {
      for (; r + kRows <= n_rows; r += kRows) {
        Targets to;
        if constexpr (kFetch == Fetch::kStream) {
          const std::int64_t tile_bytes = kRows * stride * kWeightBytes;
          to.far = stream.at(offset + r * stride * kWeightBytes +
                             (tile_bytes > kStreamBytes ? tile_bytes : kStreamBytes));
        } else if constexpr (kFetch == Fetch::kStaged) {
          const std::int64_t done = begin * n_rows + r * (columns.end - begin);
          to.far = stream.at(offset + done * kWeightBytes + kStagedBytes);
          const auto* near = r + kRows < n_rows ? w + (r + kRows) * stride + begin
                             : columns.last     ? w + n_rows * stride
                                                : w + columns.end;
          to.near = reinterpret_cast<const char*>(near);
        } else {
          ahead.step();
        }
        float* rest = kFetch == Fetch::kStream ? saved : saved + r * T * Vec::kLanes;
        tile<Arith, T, kRows, kFetch>(x, w + r * stride, stride, columns, to, rest, sums + r,
                                      call.sums_stride);
      }
    };
    std::int64_t r = 0;
    tiles.template operator()<R>(r);
    if constexpr (R > 4) tiles.template operator()<4>(r);
    if constexpr (R > 1) tiles.template operator()<1>(r);
    if (columns.last) break;
  }
}

/// The panel of n tokens, T <= n.
template <class Arith, Fetch kFetch, int T, class... Rest>
inline void panel_of(std::int64_t n, Rest&... rest) {
  constexpr int kMost =
      kFetch == Fetch::kStream ? kStreamTokens : Arith::max_tokens(kFetch != Fetch::kNone);
  if (n == T) return panel<Arith, T, kFetch>(rest...);
  if constexpr (T < kMost) panel_of<Arith, kFetch, T + 1>(n, rest...);
}

/// Everything a call asks for, `w` being its weights as this arithmetic reads them: a panel of rows
/// at a time, tokens in groups of up to max_tokens() of nearly equal size (7 are 4 + 3, not 6 + 1).
template <class Arith, Fetch kFetch>
inline void dot_by_panels(const DotCall& call, const typename Arith::W* w, std::int64_t stride,
                          std::int64_t groups) {
  constexpr std::int64_t kWeightBytes = sizeof(typename Arith::W);
  Ahead ahead;
  if (call.next != nullptr && kFetch == Fetch::kNone) {
    const std::int64_t ranges = (call.k + kRangeColumns - 1) / kRangeColumns;
    const std::int64_t tiles =
        groups * ranges *
        ((call.n_rows + 7) / 8);  // tiles have 8 rows at most: never too few lines each
    ahead = {static_cast<const char*>(call.next), call.next_bytes / 64,
             call.next_bytes / 64 / tiles + 1};
  }
  const Stream stream{reinterpret_cast<const char*>(w), call.n_rows * stride * kWeightBytes,
                      static_cast<const char*>(call.next)};
  for (std::int64_t r = 0; r < call.n_rows; r += kPanelRows) {
    const std::int64_t n_rows = call.n_rows - r < kPanelRows ? call.n_rows - r : kPanelRows;
    const typename Arith::W* rows = w + r * stride;
    const std::int64_t offset = r * stride * kWeightBytes;
    std::int64_t t = 0;
    for (std::int64_t group = 0; group < groups; ++group) {
      const std::int64_t n = (call.n_tokens - t) / (groups - group);
      const void* const* x = call.x + t;
      float* sums = call.sums + t * call.sums_stride + r;
      panel_of<Arith, kFetch, 1>(n, call, x, rows, stride, n_rows, sums, stream, offset, ahead);
      t += n;
    }
  }
}

/// dot() over weights that wait in a cache, or over weights straight from memory.
template <class Arith, bool kFromMemory>
inline void dot_with(const DotCall& call, const typename Arith::W* w, std::int64_t stride) {
  constexpr std::int64_t kMost = Arith::max_tokens(kFromMemory);
  const std::int64_t groups = (call.n_tokens + kMost - 1) / kMost;
  if constexpr (!kFromMemory) {
    dot_by_panels<Arith, Fetch::kNone>(call, w, stride, groups);
  } else {
    const std::int64_t largest = (call.n_tokens + groups - 1) / groups;
    const auto token_bytes = call.k * static_cast<std::int64_t>(sizeof(typename Arith::X));
    if (largest == 1 || (largest <= kStreamTokens && largest * token_bytes <= kStreamTokenBytes)) {
      dot_by_panels<Arith, Fetch::kStream>(call, w, stride, groups);
    } else {
      dot_by_panels<Arith, Fetch::kStaged>(call, w, stride, groups);
    }
  }
}

}  // namespace
}  // namespace gem8
