#pragma once

#include "kernels/image_attention/image_attention.h"

// The family for one ISA. Include a vec_*.h and simd/math.h first.
//
// Four queries share every load of keys and values. The scores of a query against all keys are kept
// (10 kB at 2520 patches, in L1 or L2), so softmax needs one pass and no rescaling.
namespace gem8 {
namespace {

/// scores[r][j] = q[r] · k[j] for kImageKeys keys at a time.
template <std::int64_t kRows>
inline void score(const ImageAttentionCall& call, const float* q, float* scores) {
  constexpr std::int64_t kVecs = kImageKeys / Vec::kLanes;
  for (std::int64_t j = 0; j < call.n; j += kImageKeys) {
    Vec sums[kRows][kVecs];
    for (auto& row : sums) {
      for (Vec& sum : row) sum = splat(0.0f);
    }
    for (std::int64_t d = 0; d < call.head_dim; ++d) {
      const float* keys = call.kt + d * call.stride + j;
      Vec key[kVecs];
      for (std::int64_t c = 0; c < kVecs; ++c) key[c] = load(keys + c * Vec::kLanes, Full{});
      for (std::int64_t r = 0; r < kRows; ++r) {
        const Vec query = splat(q[r * call.head_dim + d]);
        for (std::int64_t c = 0; c < kVecs; ++c) sums[r][c] = fma(query, key[c], sums[r][c]);
      }
    }
    for (std::int64_t r = 0; r < kRows; ++r) {
      for (std::int64_t c = 0; c < kVecs; ++c)
        store(scores + r * call.stride + j + c * Vec::kLanes, sums[r][c], Full{});
    }
  }
}

/// scores := e^(scores - largest) over n; gives 1 / their sum.
inline float soften(float* scores, std::int64_t n) {
  Vec largest = splat(scores[0]);
  for_lanes(n, [&](std::int64_t j, auto part) {
    const Vec s = load(scores + j, part);
    if constexpr (sizeof(part) == sizeof(Full)) {
      largest = max(largest, s);
    } else {
      largest = max(largest, first_lanes(s, part.n, largest));
    }
  });
  const Vec top = splat(reduce_max(largest));
  Vec sums = splat(0.0f);
  for_lanes(n, [&](std::int64_t j, auto part) {
    const Vec e = exp_of(load(scores + j, part) - top);
    store(scores + j, e, part);
    if constexpr (sizeof(part) == sizeof(Full)) {
      sums = sums + e;
    } else {
      sums = sums + first_lanes(e, part.n, splat(0.0f));
    }
  });
  return 1.0f / reduce_add(sums);
}

/// y[r] lanes [d, d + kVecs vectors) := inv_sum[r] * sum over j of scores[r][j] v[j].
template <std::int64_t kRows, std::int64_t kVecs, class Last>
inline void mix(const ImageAttentionCall& call, const float* scores, const float* inv_sum,
                std::int64_t d, Last last, float* y) {
  Vec sums[kRows][kVecs];
  for (auto& row : sums) {
    for (Vec& sum : row) sum = splat(0.0f);
  }
  for (std::int64_t j = 0; j < call.n; ++j) {
    const float* values = call.v + j * call.head_dim + d;
    Vec value[kVecs];
    for (std::int64_t c = 0; c + 1 < kVecs; ++c) value[c] = load(values + c * Vec::kLanes, Full{});
    value[kVecs - 1] = load(values + (kVecs - 1) * Vec::kLanes, last);
    for (std::int64_t r = 0; r < kRows; ++r) {
      const Vec weight = splat(scores[r * call.stride + j]);
      for (std::int64_t c = 0; c < kVecs; ++c) sums[r][c] = fma(weight, value[c], sums[r][c]);
    }
  }
  for (std::int64_t r = 0; r < kRows; ++r) {
    float* to = y + r * call.head_dim + d;
    for (std::int64_t c = 0; c + 1 < kVecs; ++c)
      store(to + c * Vec::kLanes, sums[r][c] * splat(inv_sum[r]), Full{});
    store(to + (kVecs - 1) * Vec::kLanes, sums[r][kVecs - 1] * splat(inv_sum[r]), last);
  }
}

template <std::int64_t kRows>
inline void attend_rows(const ImageAttentionCall& call, std::int64_t first) {
  score<kRows>(call, call.q + first * call.head_dim, call.scores);
  float inv_sum[kRows];
  for (std::int64_t r = 0; r < kRows; ++r)
    inv_sum[r] = soften(call.scores + r * call.stride, call.n);
  float* y = call.y + first * call.head_dim;
  constexpr std::int64_t kVecs =
      2;  // with four rows: eight accumulators, within AVX2's sixteen registers
  constexpr std::int64_t kStep = kVecs * Vec::kLanes;
  std::int64_t d = 0;
  for (; d + kStep <= call.head_dim; d += kStep)
    mix<kRows, kVecs>(call, call.scores, inv_sum, d, Full{}, y);
  for (; d + Vec::kLanes <= call.head_dim; d += Vec::kLanes)
    mix<kRows, 1>(call, call.scores, inv_sum, d, Full{}, y);
  if (d < call.head_dim) mix<kRows, 1>(call, call.scores, inv_sum, d, Part{call.head_dim - d}, y);
}

void attend(const ImageAttentionCall& call, std::int64_t begin, std::int64_t end) noexcept {
  std::int64_t i = begin;
  for (; i + kImageQueries <= end; i += kImageQueries) attend_rows<kImageQueries>(call, i);
  for (; i < end; ++i) attend_rows<1>(call, i);
}

}  // namespace
}  // namespace gem8
