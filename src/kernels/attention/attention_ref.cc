#include <algorithm>
#include <cmath>

#include "kernels/attention/attention.h"
#include "kernels/element.h"

namespace gem8 {
namespace {

/// q · k, where a k_in_v layer stores only the rotated lanes of k and the others are v times the
/// norm weight.
template <class T>
double score(const KvLayer& layer, const T* q, const T* k, const T* v) {
  const std::int64_t half = layer.head_dim / 2;
  const std::int64_t k_half = layer.k_lanes / 2;
  double sum = 0.0;
  for (std::int64_t part = 0; part < 2; ++part) {
    for (std::int64_t i = 0; i < k_half; ++i)
      sum += static_cast<double>(widen(q[part * half + i])) * widen(k[part * k_half + i]);
    for (std::int64_t i = part * half + k_half; i < (part + 1) * half; ++i) {
      sum += static_cast<double>(widen(q[i])) * param_at(layer.k_norm, i) * widen(v[i]);
    }
  }
  return sum;
}

void partial(const AttentionTile& tile) noexcept {
  const KvLayer& layer = *tile.layer;
  const std::int64_t head_dim = layer.head_dim;
  with_float_type(layer.dtype, [&]<class T>(T) {
    for (std::int64_t i = 0; i < tile.n_queries; ++i) {
      const AttentionQuery& query = tile.queries[i];
      const T* q = static_cast<const T*>(query.q);
      float* acc = tile.state.acc + i * head_dim;
      std::fill_n(acc, head_dim, 0.0f);
      double max = AttentionState::kNoKeys;
      double sum = 0.0;
      for (std::int64_t key = std::max(query.lo, tile.key_begin);
           key < std::min(query.hi + 1, tile.key_end); ++key) {
        const std::int64_t page = tile.pages[key / KvLayer::kPageTokens];
        const std::int64_t cell = (page * layer.kv_heads + tile.kv_head) * KvLayer::kPageTokens +
                                  key % KvLayer::kPageTokens;
        const T* k = static_cast<const T*>(layer.k) + cell * layer.k_lanes;
        const T* v = static_cast<const T*>(layer.v) + cell * head_dim;
        const double s = score(layer, q, k, v);
        if (s > max) {
          const double shrink = std::exp(max - s);
          sum *= shrink;
          for (std::int64_t lane = 0; lane < head_dim; ++lane)
            acc[lane] = static_cast<float>(acc[lane] * shrink);
          max = s;
        }
        const double p = std::exp(s - max);
        sum += p;
        for (std::int64_t lane = 0; lane < head_dim; ++lane)
          acc[lane] = static_cast<float>(acc[lane] + p * widen(v[lane]));
      }
      // The stored maximum is a float: bring the weights to it exactly.
      const auto stored = static_cast<float>(max);
      const double correction = std::exp(max - static_cast<double>(stored));
      tile.state.max[i] = stored;
      tile.state.sum[i] = static_cast<float>(sum * correction);
      for (std::int64_t lane = 0; lane < head_dim; ++lane)
        acc[lane] = static_cast<float>(acc[lane] * correction);
    }
  });
}

void merge(const AttentionState& total, const AttentionState& part, std::int64_t n,
           std::int64_t head_dim) noexcept {
  for (std::int64_t i = 0; i < n; ++i) {
    const float max = std::max(total.max[i], part.max[i]);
    const float keep = std::exp(total.max[i] - max);
    const float add = std::exp(part.max[i] - max);
    total.max[i] = max;
    total.sum[i] = total.sum[i] * keep + part.sum[i] * add;
    for (std::int64_t lane = i * head_dim; lane < (i + 1) * head_dim; ++lane) {
      total.acc[lane] = total.acc[lane] * keep + part.acc[lane] * add;
    }
  }
}

void finish(const AttentionState& total, std::int64_t n, std::int64_t head_dim, void* const* y,
            DType dtype) noexcept {
  with_float_type(dtype, [&]<class T>(T) {
    for (std::int64_t i = 0; i < n; ++i) {
      for (std::int64_t lane = 0; lane < head_dim; ++lane) {
        static_cast<T*>(y[i])[lane] = narrow<T>(total.acc[i * head_dim + lane] / total.sum[i]);
      }
    }
  });
}

}  // namespace

extern const AttentionKernel attention_ref;
const AttentionKernel attention_ref = {partial, merge, finish};

}  // namespace gem8
