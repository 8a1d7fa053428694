#include <algorithm>
#include <cmath>

#include "kernels/context.h"
#include "kernels/linear/linear_inputs.h"

namespace gem8 {
namespace {

using internal::LinearInput;

/// The routing turned round: pairs (token, place among its experts) sorted by expert, then token.
struct Pairs {
  std::int64_t n_pairs = 0;
  std::int64_t n_active = 0;
  std::int32_t* active = nullptr;   ///< [n_active] experts that at least one token chose, ascending
  std::int32_t* first = nullptr;    ///< [n_active + 1] their first pairs
  std::int32_t* token = nullptr;    ///< [n_pairs]
  std::int32_t* pair_of = nullptr;  ///< [tokens * top_k]
};

Pairs group_by_expert(KernelContext& context, const Routing& routing, std::int64_t experts) {
  Pairs pairs;
  pairs.n_pairs = routing.tokens * routing.top_k;
  auto* ints = context.items.get<std::int32_t>(
      static_cast<std::size_t>(3 * experts + 2 + 2 * pairs.n_pairs));
  pairs.active = ints;
  pairs.first = ints + experts;
  pairs.token = ints + 2 * experts + 1;
  pairs.pair_of = pairs.token + pairs.n_pairs;
  std::int32_t* next = pairs.pair_of + pairs.n_pairs;
  std::fill_n(next, experts, 0);
  for (std::int64_t i = 0; i < pairs.n_pairs; ++i) ++next[routing.experts[i]];
  std::int32_t sum = 0;
  for (std::int64_t e = 0; e < experts; ++e) {
    const std::int32_t count = next[e];
    next[e] = sum;
    if (count == 0) continue;
    pairs.active[pairs.n_active] = static_cast<std::int32_t>(e);
    pairs.first[pairs.n_active++] = sum;
    sum += count;
  }
  pairs.first[pairs.n_active] = sum;
  for (std::int64_t i = 0; i < pairs.n_pairs; ++i) {
    const std::int32_t pair = next[routing.experts[i]]++;
    pairs.token[pair] = static_cast<std::int32_t>(i / routing.top_k);
    pairs.pair_of[i] = pair;
  }
  return pairs;
}

/// Addresses and scales of the gate/up input, per pair. W8A8 quantises every pair with its expert's
/// scale: a copy per pair, which costs top_k times the memory of one per token but holds for
/// experts of different scales too.
LinearInput input_rows(KernelContext& context, const LinearMode& mode, const ConstMat& x,
                       const Pairs& pairs, std::span<const LinearWeight> gate) {
  const auto n = static_cast<std::size_t>(pairs.n_pairs);
  const void** rows =
      context.pointers.get<const void*>(2 * n);  // the second half: the down projections' input
  const auto row_bytes = static_cast<std::size_t>(x.stride) * dtype_bytes(x.dtype);
  for (std::size_t pair = 0; pair < n; ++pair) {
    rows[pair] = static_cast<const std::byte*>(x.data) +
                 static_cast<std::size_t>(pairs.token[pair]) * row_bytes;
  }
  if (!internal::reads_fp8(mode, gate[static_cast<std::size_t>(pairs.active[0])]))
    return {rows, nullptr};
  auto* copies =
      context.quantized.get<std::byte>(n * static_cast<std::size_t>(x.cols) * dtype_bytes(x.dtype));
  float* scales = context.scales.get<float>(n);
  context.pool.parallel_for(
      static_cast<std::size_t>(pairs.n_active), [&](std::size_t index, std::size_t) {
        const float scale = gate[static_cast<std::size_t>(pairs.active[index])].input_scale;
        for (std::int32_t pair = pairs.first[index]; pair < pairs.first[index + 1]; ++pair) {
          const Mat copy{copies + static_cast<std::size_t>(pair * x.cols) * dtype_bytes(x.dtype),
                         x.dtype, 1, x.cols, x.cols};
          mode.kernel.quantize({.x = {rows[pair], x.dtype, 1, x.cols, x.stride},
                                .static_scale = scale,
                                .y = copy,
                                .scales = scales + pair},
                               0, 1);
          rows[pair] = copy.data;
        }
      });
  return {rows, scales};
}

void observe(const ConstMat& hidden, const Pairs& pairs, const ExpertObserver& observer,
             ThreadPool& pool) {
  pool.parallel_for(static_cast<std::size_t>(pairs.n_active), [&](std::size_t index, std::size_t) {
    float& seen = observer.down_input_amax[static_cast<std::size_t>(pairs.active[index])];
    with_float_type(hidden.dtype, [&]<class T>(T) {
      for (std::int32_t pair = pairs.first[index]; pair < pairs.first[index + 1]; ++pair) {
        const T* h = row_of<T>(hidden, pair);
        for (std::int64_t i = 0; i < hidden.cols; ++i) {
          const float magnitude = std::fabs(widen(h[i]));
          if (!(magnitude <= seen)) seen = std::isnan(magnitude) ? INFINITY : magnitude;
        }
      }
    });
  });
}

/// Output rows of one item of the down product. Each expert gives it only these rows: enough of
/// them that a piece is long against the start of reading it, but no more sums than L2 holds.
std::int64_t down_rows(const KernelContext& context, const Pairs& pairs, const LinearWeight& down,
                       std::int64_t tokens) {
  constexpr std::int64_t kLeastRows = 32;
  const std::int64_t blocked = internal::blocking_for(tokens, down.out, down.in * pairs.n_active,
                                                      down.dtype, context.pool.size())
                                   .rows;
  const std::int64_t shared =
      down.out / (static_cast<std::int64_t>(context.pool.size()) * 8) / 8 * 8;
  const std::int64_t wanted = std::max(blocked, std::min(kLeastRows, shared));
  const std::int64_t sums_limit = (std::int64_t{512} << 10) / (4 * pairs.n_pairs) / 8 * 8;
  return std::max<std::int64_t>(8, std::min(wanted, sums_limit));
}

/// h[pair] = gelu(gate x) * (up x) with the pair's expert: all active experts in one region.
void gate_and_up(KernelContext& context, const LinearMode& mode, const ConstMat& x,
                 const Pairs& pairs, std::int64_t tokens, const ExpertWeights& weights,
                 const Mat& h) {
  const LinearInput input = input_rows(context, mode, x, pairs, weights.gate);
  const std::int64_t ffn = h.cols;
  const internal::Blocking block = internal::blocking_for(
      tokens, 2 * ffn * pairs.n_active, x.cols, weights.gate[0].dtype, context.pool.size());
  const std::int64_t row_blocks = (ffn + block.rows - 1) / block.rows;
  context.runs.parallel_for(pairs.n_active * row_blocks, [&](std::int64_t item, std::size_t thread,
                                                             std::int64_t following) {
    const std::int64_t index = item / row_blocks;
    const std::int64_t row = item % row_blocks * block.rows;
    const std::int64_t n_rows = std::min(block.rows, ffn - row);
    const auto expert = static_cast<std::size_t>(pairs.active[index]);
    for (std::int64_t pair = pairs.first[index]; pair < pairs.first[index + 1];
         pair += block.tokens) {
      const std::int64_t n = std::min<std::int64_t>(block.tokens, pairs.first[index + 1] - pair);
      // W8A8 imitates kernels that round gate and up to bf16; weight-only keeps F32 to the end.
      const internal::GatedTile tile{.gate = weights.gate[expert],
                                     .up = weights.up[expert],
                                     .gate_input = input.from(pair),
                                     .up_input = input.from(pair),
                                     .x_dtype = x.dtype,
                                     .n_tokens = n,
                                     .row = row,
                                     .n_rows = n_rows,
                                     .token_first = true,
                                     .inner_rounding = input.scales != nullptr,
                                     .y = internal::part_of(h, pair, n, row, n_rows)};
      internal::gated_tile(mode.kernel, context.per_thread[thread], tile, [&](DotCall& last) {
        if (following < 0) return;
        const auto next = static_cast<std::size_t>(pairs.active[following / row_blocks]);
        internal::announce(last, weights.gate[next], following % row_blocks * block.rows,
                           block.rows);
      });
    }
  });
}

/// Addresses and scales of the down projections' input: h as it is, or its W8A8 copy.
LinearInput hidden_rows(KernelContext& context, const LinearMode& mode, const Mat& h,
                        const Pairs& pairs, std::span<const LinearWeight> down) {
  const auto n = static_cast<std::size_t>(pairs.n_pairs);
  const void** rows = context.pointers.get<const void*>(2 * n) + n;
  if (!internal::reads_fp8(mode, down[static_cast<std::size_t>(pairs.active[0])])) {
    internal::fill_row_addresses(h, rows);
    return {rows, nullptr};
  }
  const std::size_t copy_bytes = n * static_cast<std::size_t>(h.cols) * dtype_bytes(h.dtype);
  const Mat copy{context.hidden_quantized.get<std::byte>(copy_bytes), h.dtype, pairs.n_pairs,
                 h.cols, h.cols};
  float* scales = context.hidden_scales.get<float>(n);
  context.pool.parallel_for(
      static_cast<std::size_t>(pairs.n_active), [&](std::size_t index, std::size_t) {
        const float scale = down[static_cast<std::size_t>(pairs.active[index])].input_scale;
        mode.kernel.quantize({.x = h, .static_scale = scale, .y = copy, .scales = scales},
                             pairs.first[index], pairs.first[index + 1]);
      });
  internal::fill_row_addresses(copy, rows);
  return {rows, scales};
}

/// y[token] = sum of weight * (down h[pair]) over the token's pairs. An item holds one block of
/// output rows for all pairs, so the sum follows while its parts are in cache.
void down_and_combine(KernelContext& context, const LinearMode& mode, const LinearInput& input,
                      DType input_dtype, const Pairs& pairs, const Routing& routing,
                      std::span<const LinearWeight> weights, const Mat& y) {
  const std::int64_t rows = down_rows(context, pairs, weights[0], routing.tokens);
  const auto down_of = [&](std::int64_t index) -> const LinearWeight& {
    return weights[static_cast<std::size_t>(pairs.active[index])];
  };
  context.runs.parallel_for((y.cols + rows - 1) / rows, [&](std::int64_t item, std::size_t thread,
                                                            std::int64_t following) {
    const std::int64_t row = item * rows;
    const std::int64_t n_rows = std::min(rows, y.cols - row);
    KernelContext::PerThread& scratch = context.per_thread[thread];
    float* sums = scratch.sums.get<float>(static_cast<std::size_t>(n_rows * pairs.n_pairs));
    for (std::int64_t index = 0; index < pairs.n_active; ++index) {
      const LinearWeight& down = down_of(index);
      const std::int64_t first = pairs.first[index];
      const std::int64_t n = pairs.first[index + 1] - first;
      const LinearInput part = input.from(first);
      float* part_sums = sums + first * n_rows;
      DotCall dot{.x = part.rows,
                  .x_dtype = input_dtype,
                  .n_tokens = n,
                  .w = internal::weight_row(down, row),
                  .w_dtype = down.dtype,
                  .n_rows = n_rows,
                  .k = down.in,
                  .sums = part_sums,
                  .sums_stride = n_rows,
                  .unpack = scratch.unpack.get<std::byte>(unpack_bytes(n_rows, down.in))};
      if (index + 1 < pairs.n_active) {
        internal::announce(dot, down_of(index + 1), row, n_rows);
      } else if (following >= 0) {
        internal::announce(dot, down_of(0), following * rows, rows);
      }
      mode.kernel.dot(dot);
      mode.kernel.store({.sums = part_sums,
                         .sums_stride = n_rows,
                         .scaling = {down.scale, part.scales, true},
                         .y = {part_sums, DType::kF32, n, n_rows, n_rows}});
    }
    mode.kernel.combine({.values = sums,
                         .values_stride = n_rows,
                         .pairs = pairs.pair_of,
                         .weights = routing.weights,
                         .top_k = routing.top_k,
                         .y = internal::part_of(y, 0, routing.tokens, row, n_rows)});
  });
}

}  // namespace

void experts(KernelContext& context, const LinearMode& mode, const ConstMat& x,
             const Routing& routing, const ExpertWeights& weights, const Mat& y,
             const ExpertObserver& observer) {
  if (routing.tokens == 0) return;
  const Pairs pairs =
      group_by_expert(context, routing, static_cast<std::int64_t>(weights.gate.size()));
  const std::int64_t ffn = weights.gate[0].out;
  const std::size_t h_bytes = static_cast<std::size_t>(pairs.n_pairs * ffn) * dtype_bytes(x.dtype);
  const Mat h{context.hidden.get<std::byte>(h_bytes), x.dtype, pairs.n_pairs, ffn, ffn};
  gate_and_up(context, mode, x, pairs, routing.tokens, weights, h);
  if (!observer.down_input_amax.empty()) observe(h, pairs, observer, context.pool);
  const LinearInput hidden = hidden_rows(context, mode, h, pairs, weights.down);
  down_and_combine(context, mode, hidden, h.dtype, pairs, routing, weights.down, y);
}

}  // namespace gem8
