#include "kernels/router/router.h"

#include <algorithm>
#include <cmath>

#include "kernels/element.h"

namespace gem8 {
namespace {

/// out = ((rms_norm(x) * scale) * hidden^-1/2), F32 throughout.
template <class T>
void scaled_norm(const T* x, std::int64_t hidden, float eps, const ParamVec& scale, float* out) {
  double sums[4] = {};
  std::int64_t i = 0;
  for (; i + 4 <= hidden; i += 4) {
    for (int lane = 0; lane < 4; ++lane)
      sums[lane] += static_cast<double>(widen(x[i + lane])) * widen(x[i + lane]);
  }
  for (; i < hidden; ++i) sums[0] += static_cast<double>(widen(x[i])) * widen(x[i]);
  const double sum = (sums[0] + sums[1]) + (sums[2] + sums[3]);
  const auto inv_rms = static_cast<float>(1.0 / std::sqrt(sum / static_cast<double>(hidden) + eps));
  const auto inv_root = static_cast<float>(1.0 / std::sqrt(static_cast<double>(hidden)));
  with_float_type(scale.dtype, [&]<class S>(S) {
    const S* scales = static_cast<const S*>(scale.data);
    for (std::int64_t h = 0; h < hidden; ++h)
      out[h] = widen(x[h]) * inv_rms * widen(scales[h]) * inv_root;
  });
}

/// The top_k of one row of logits: best first, the lower id first among equals; softmax over all,
/// renormalised over the chosen. A logit that is NaN is never better than another; the chosen are
/// distinct and in range whatever the input.
void choose(const float* logits, std::int64_t experts, const ParamVec& per_expert_scale,
            std::int64_t top_k, std::int32_t* chosen, float* weights) {
  std::int64_t n = 0;
  for (std::int64_t e = 0; e < experts; ++e) {
    std::int64_t place = n;
    while (place > 0 && !(logits[chosen[place - 1]] >= logits[e]) && !std::isnan(logits[e]))
      --place;
    if (place >= top_k) continue;
    if (n < top_k) ++n;
    for (std::int64_t i = n - 1; i > place; --i) chosen[i] = chosen[i - 1];
    chosen[place] = static_cast<std::int32_t>(e);
  }
  // The softmax over all experts cancels in the renormalisation: p_i / sum of chosen p = exp(z_i -
  // z_0) / sum over chosen.
  double sum = 0.0;
  const double best = logits[chosen[0]];
  for (std::int64_t i = 0; i < top_k; ++i) sum += std::exp(logits[chosen[i]] - best);
  for (std::int64_t i = 0; i < top_k; ++i) {
    const auto share = static_cast<float>(std::exp(logits[chosen[i]] - best) / sum);
    weights[i] = share * param_at(per_expert_scale, chosen[i]);
  }
}

}  // namespace

void router(KernelContext& context, const LinearKernel& kernel, const ConstMat& x,
            const RouterWeights& weights, float eps, const Routing& routing, const Mat& logits) {
  const std::int64_t hidden = x.cols;
  const std::int64_t experts = weights.proj.out;
  const auto tokens = static_cast<std::size_t>(x.rows);
  if (tokens == 0) return;
  float* normed = context.hidden.get<float>(tokens * static_cast<std::size_t>(hidden + experts));
  float* own_logits = normed + tokens * static_cast<std::size_t>(hidden);
  const Mat z =
      logits.data != nullptr ? logits : Mat{own_logits, DType::kF32, x.rows, experts, experts};
  const void** rows = context.pointers.get<const void*>(tokens);
  for (std::size_t t = 0; t < tokens; ++t) rows[t] = normed + t * static_cast<std::size_t>(hidden);

  for_ranges(context.pool, tokens, rows_per_chunk(hidden),
             [&](std::size_t begin, std::size_t end, std::size_t) {
               with_float_type(x.dtype, [&]<class T>(T) {
                 for (std::size_t t = begin; t < end; ++t) {
                   scaled_norm(row_of<T>(x, static_cast<std::int64_t>(t)), hidden, eps,
                               weights.scale, normed + t * static_cast<std::size_t>(hidden));
                 }
               });
             });
  // Blocks of 16 tokens by all experts, or for a single block of tokens by 16 experts.
  constexpr std::int64_t kTokens = 16;
  const std::int64_t token_blocks = (x.rows + kTokens - 1) / kTokens;
  const std::int64_t block_rows = token_blocks > 1 ? experts : 16;
  const std::int64_t row_blocks = (experts + block_rows - 1) / block_rows;
  context.pool.parallel_for(
      static_cast<std::size_t>(token_blocks * row_blocks),
      [&](std::size_t item, std::size_t thread) {
        const std::int64_t token = static_cast<std::int64_t>(item) / row_blocks * kTokens;
        const std::int64_t row = static_cast<std::int64_t>(item) % row_blocks * block_rows;
        const std::int64_t n_rows = std::min(block_rows, experts - row);
        const std::size_t row_bytes =
            static_cast<std::size_t>(hidden) * dtype_bytes(weights.proj.dtype);
        kernel.dot({.x = rows + token,
                    .x_dtype = DType::kF32,
                    .n_tokens = std::min(kTokens, x.rows - token),
                    .w = static_cast<const std::byte*>(weights.proj.data) +
                         static_cast<std::size_t>(row) * row_bytes,
                    .w_dtype = weights.proj.dtype,
                    .n_rows = n_rows,
                    .k = hidden,
                    .sums = static_cast<float*>(z.data) + token * z.stride + row,
                    .sums_stride = z.stride,
                    .unpack = context.per_thread[thread].unpack.get<std::byte>(
                        unpack_bytes(n_rows, hidden))});
      });
  for_ranges(context.pool, tokens, 16, [&](std::size_t begin, std::size_t end, std::size_t) {
    for (auto t = static_cast<std::int64_t>(begin); t < static_cast<std::int64_t>(end); ++t) {
      choose(static_cast<const float*>(z.data) + t * z.stride, experts, weights.per_expert_scale,
             routing.top_k, routing.experts + t * routing.top_k,
             routing.weights + t * routing.top_k);
    }
  });
}

}  // namespace gem8
