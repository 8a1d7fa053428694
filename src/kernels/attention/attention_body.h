#pragma once

#include "kernels/attention/attention.h"

// The family for one ISA. Include a vec_*.h, simd/math.h and an arith_*.h (for Bf16ByBf16) first.
// BF16 caches only.
namespace gem8 {
namespace {

constexpr std::int64_t kKeys =
    KvLayer::kPageTokens;  ///< keys of a block: a page, so blocks lie at absolute positions
constexpr std::int64_t kQueries = kAttentionTileQueries;

/// The scratch of a tile. For a k_in_v layer, q is split: `rotated` [k_lanes] meets the stored
/// lanes of k, `folded` [head_dim] is R(q * k_norm) in the other lanes and zero in the rotated
/// ones, and meets v.
struct TileScratch {
  float scores[kQueries * kKeys];
  float shrink[kQueries];
  const void* q[kQueries];
  const void* folded[kQueries];
};
static_assert(sizeof(TileScratch) <= 4096 + kQueries * 4 * 64);

inline void split_queries(const AttentionTile& tile, const AttentionQuery* queries, std::int64_t n,
                          TileScratch& scratch) {
  const KvLayer& layer = *tile.layer;
  auto* memory = reinterpret_cast<std::uint16_t*>(&scratch + 1);
  const std::int64_t half = layer.head_dim / 2;
  const std::int64_t k_half = layer.k_lanes / 2;
  const bool norm_is_f32 = layer.k_norm.dtype == DType::kF32;
  for (std::int64_t i = 0; i < n; ++i) {
    const auto* q = static_cast<const std::uint16_t*>(queries[i].q);
    std::uint16_t* rotated = memory + i * 2 * layer.head_dim;
    std::uint16_t* folded = rotated + layer.head_dim;
    for (std::int64_t part = 0; part < 2; ++part) {
      for (std::int64_t lane = 0; lane < k_half; ++lane) {
        rotated[part * k_half + lane] = q[part * half + lane];
        folded[part * half + lane] = 0;
      }
      const std::int64_t first = part * half + k_half;
      for_lanes(half - k_half, [&](std::int64_t lane, auto lanes) {
        const Vec w =
            norm_is_f32
                ? load(static_cast<const float*>(layer.k_norm.data) + first + lane, lanes)
                : load(static_cast<const std::uint16_t*>(layer.k_norm.data) + first + lane, lanes);
        store(folded + first + lane, load(q + first + lane, lanes) * w, lanes);
      });
    }
    scratch.q[i] = rotated;
    scratch.folded[i] = folded;
  }
}

/// One query, one block: scores become weights relative to the running maximum; keys outside [lo,
/// hi] weigh nothing.
inline void softmax_block(float* scores, std::int64_t key, const AttentionQuery& query,
                          float* max_so_far, float* sum, float* shrink) {
  constexpr std::int64_t w = Vec::kLanes;
  constexpr std::int64_t n = kKeys / w;
  const std::int64_t from = query.lo - key;  // lanes [from, to) are allowed
  const std::int64_t to = query.hi + 1 - key;
  const Vec none = splat(AttentionState::kNoKeys);
  Vec s[n];
  Vec block_max = none;
  for (std::int64_t i = 0; i < n; ++i) {
    s[i] = first_lanes(none, from - i * w,
                       first_lanes(load(scores + i * w, Full{}), to - i * w, none));
    block_max = max(s[i], block_max);
  }
  const float largest = reduce_max(block_max);
  const float new_max = largest > *max_so_far ? largest : *max_so_far;
  const Vec reference = splat(new_max);
  Vec block_sum = splat(0.0f);
  for (std::int64_t i = 0; i < n; ++i) {
    const Vec zero = splat(0.0f);
    const Vec p =
        first_lanes(zero, from - i * w, first_lanes(exp_of(s[i] - reference), to - i * w, zero));
    store(scores + i * w, p, Full{});
    block_sum = block_sum + p;
  }
  // When the maximum stays, e^0 is exactly 1: a block without keys for this query changes no bit of
  // its state.
  alignas(64) float factor[w];
  store(factor, exp_of(splat(*max_so_far - new_max)), Full{});
  *shrink = factor[0];
  *sum = *sum * factor[0] + reduce_add(block_sum);
  *max_so_far = new_max;
}

/// acc[t] = acc[t] * shrink[t] + sum over keys [from, to) of p[t][key] * v[key], T queries by C
/// vectors of lanes, keys in order.
template <int T, int C, class P>
inline void weigh_values(const float* p, const float* shrink, const std::uint16_t* v,
                         std::int64_t head_dim, std::int64_t from, std::int64_t to, float* acc,
                         P part) {
  constexpr std::int64_t w = Vec::kLanes;
  Vec sum[T][C];
#pragma GCC unroll 16
  for (int t = 0; t < T; ++t) {
#pragma GCC unroll 16
    for (int c = 0; c < C; ++c)
      sum[t][c] = load(acc + t * head_dim + c * w, part) * splat(shrink[t]);
  }
  for (std::int64_t key = from; key < to; ++key) {
#pragma GCC unroll 16
    for (int c = 0; c < C; ++c) {
      const Vec value = load(v + key * head_dim + c * w, part);
#pragma GCC unroll 16
      for (int t = 0; t < T; ++t) sum[t][c] = fma(splat(p[t * kKeys + key]), value, sum[t][c]);
    }
  }
#pragma GCC unroll 16
  for (int t = 0; t < T; ++t) {
#pragma GCC unroll 16
    for (int c = 0; c < C; ++c) store(acc + t * head_dim + c * w, sum[t][c], part);
  }
}

template <int T>
inline void weigh_lanes(const float* p, const float* shrink, const std::uint16_t* v,
                        std::int64_t head_dim, std::int64_t from, std::int64_t to, float* acc,
                        Ahead& ahead) {
  constexpr std::int64_t w = Vec::kLanes;
  std::int64_t lane = 0;
  for (; lane + 4 * w <= head_dim; lane += 4 * w) {
    ahead.step();
    weigh_values<T, 4>(p, shrink, v + lane, head_dim, from, to, acc + lane, Full{});
  }
  for_lanes(head_dim - lane, [&](std::int64_t i, auto part) {
    weigh_values<T, 1>(p, shrink, v + lane + i, head_dim, from, to, acc + lane + i, part);
  });
}

void partial_of(const AttentionTile& tile, const AttentionQuery* queries, std::int64_t n,
                const AttentionState& state) {
  const KvLayer& layer = *tile.layer;
  const std::int64_t head_dim = layer.head_dim;
  auto& scratch = *static_cast<TileScratch*>(tile.scratch);
  std::int64_t lo = tile.key_end;
  std::int64_t hi = -1;
  for (std::int64_t i = 0; i < n; ++i) {
    lo = queries[i].lo < lo ? queries[i].lo : lo;
    hi = queries[i].hi > hi ? queries[i].hi : hi;
    scratch.q[i] = queries[i].q;
    state.max[i] = AttentionState::kNoKeys;
    state.sum[i] = 0.0f;
  }
  __builtin_memset(state.acc, 0, static_cast<std::size_t>(n * head_dim) * sizeof(float));
  if (layer.k_in_v) split_queries(tile, queries, n, scratch);
  const std::int64_t begin = lo > tile.key_begin ? lo : tile.key_begin;
  const std::int64_t end = hi + 1 < tile.key_end ? hi + 1 : tile.key_end;

  for (std::int64_t key = begin / kKeys * kKeys; key < end; key += kKeys) {
    const std::int64_t cell = (tile.pages[key / kKeys] * layer.kv_heads + tile.kv_head) * kKeys;
    const auto* k = static_cast<const std::uint16_t*>(layer.k) + cell * layer.k_lanes;
    const auto* v = static_cast<const std::uint16_t*>(layer.v) + cell * head_dim;
    DotCall dot{.x = scratch.q,
                .n_tokens = n,
                .n_rows = kKeys,
                .k = layer.k_lanes,
                .sums = scratch.scores,
                .sums_stride = kKeys};
    // While this page is worked on, the next one is fetched: keys during the scores, values during
    // the weighing.
    Ahead ahead;
    if (key + kKeys < end) {
      const std::int64_t next =
          (tile.pages[key / kKeys + 1] * layer.kv_heads + tile.kv_head) * kKeys;
      dot.next = static_cast<const std::uint16_t*>(layer.k) + next * layer.k_lanes;
      dot.next_bytes = kKeys * layer.k_lanes * 2;
      const std::int64_t lines = kKeys * head_dim * 2 / 64;
      const std::int64_t tiles = (n + 3) / 4 * (head_dim / (4 * Vec::kLanes));
      ahead = {reinterpret_cast<const char*>(static_cast<const std::uint16_t*>(layer.v) +
                                             next * head_dim),
               lines, tiles > 0 ? lines / tiles + 1 : 0};
    }
    dot_with<Bf16ByBf16, false>(dot, k, layer.k_lanes);
    if (layer.k_in_v) {
      alignas(64) float others[kQueries * kKeys];
      dot.next = nullptr;
      dot.x = scratch.folded;
      dot.k = head_dim;
      dot.sums = others;
      dot_with<Bf16ByBf16, false>(dot, v, head_dim);
      for_lanes(n * kKeys, [&](std::int64_t i, auto part) {
        store(scratch.scores + i, load(scratch.scores + i, part) + load(others + i, part), part);
      });
    }
    for (std::int64_t i = 0; i < n; ++i) {
      softmax_block(scratch.scores + i * kKeys, key, queries[i], state.max + i, state.sum + i,
                    scratch.shrink + i);
    }
    // Slots outside the tile's keys may never have been written: they are not even multiplied by
    // zero.
    const std::int64_t from = begin > key ? begin - key : 0;
    const std::int64_t to = end - key < kKeys ? end - key : kKeys;
    std::int64_t i = 0;
    const auto weigh = [&]<int T>() {
      weigh_lanes<T>(scratch.scores + i * kKeys, scratch.shrink + i, v, head_dim, from, to,
                     state.acc + i * head_dim, ahead);
      i += T;
    };
    while (i + 4 <= n) weigh.template operator()<4>();
    while (i + 2 <= n) weigh.template operator()<2>();
    while (i < n) weigh.template operator()<1>();
  }
}

void partial(const AttentionTile& tile) noexcept {
  for (std::int64_t i = 0; i < tile.n_queries; i += kQueries) {
    const std::int64_t n = tile.n_queries - i < kQueries ? tile.n_queries - i : kQueries;
    partial_of(tile, tile.queries + i, n,
               {tile.state.max + i, tile.state.sum + i, tile.state.acc + i * tile.layer->head_dim});
  }
}

void merge(const AttentionState& total, const AttentionState& part, std::int64_t n,
           std::int64_t head_dim) noexcept {
  for (std::int64_t i = 0; i < n; ++i) {
    const float new_max = total.max[i] > part.max[i] ? total.max[i] : part.max[i];
    const Vec keep = exp_of(splat(total.max[i] - new_max));
    const Vec add = exp_of(splat(part.max[i] - new_max));
    alignas(64) float factors[2 * Vec::kLanes];
    store(factors, keep, Full{});
    store(factors + Vec::kLanes, add, Full{});
    total.max[i] = new_max;
    total.sum[i] = total.sum[i] * factors[0] + part.sum[i] * factors[Vec::kLanes];
    for_lanes(head_dim, [&](std::int64_t lane, auto lanes) {
      float* acc = total.acc + i * head_dim + lane;
      store(acc, fma(load(acc, lanes), keep, load(part.acc + i * head_dim + lane, lanes) * add),
            lanes);
    });
  }
}

void finish(const AttentionState& total, std::int64_t n, std::int64_t head_dim, void* const* y,
            DType) noexcept {
  for (std::int64_t i = 0; i < n; ++i) {
    const Vec inv_sum = splat(1.0f / total.sum[i]);
    auto* out = static_cast<std::uint16_t*>(y[i]);
    for_lanes(head_dim, [&](std::int64_t lane, auto lanes) {
      store(out + lane, load(total.acc + i * head_dim + lane, lanes) * inv_sum, lanes);
    });
  }
}

}  // namespace
}  // namespace gem8
