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

struct Tile {
  std::int64_t index;  ///< of the active expert
  std::int64_t row;
};

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

}  // namespace

void experts(KernelContext& context, const LinearMode& mode, const ConstMat& x,
             const Routing& routing, const ExpertWeights& weights, const Mat& y,
             const ExpertObserver& observer) {
  if (routing.tokens == 0) return;
  const Pairs pairs =
      group_by_expert(context, routing, static_cast<std::int64_t>(weights.gate.size()));
  const std::int64_t ffn = weights.gate[0].out;
  const std::int64_t hidden = x.cols;
  const LinearInput input = input_rows(context, mode, x, pairs, weights.gate);
  const bool fp8_input = input.scales != nullptr;

  // gate and up of every active expert: h [pairs, ffn].
  const auto h_elements = static_cast<std::size_t>(pairs.n_pairs * ffn);
  const Mat h{context.hidden.get<std::byte>(h_elements * dtype_bytes(x.dtype)), x.dtype,
              pairs.n_pairs, ffn, ffn};
  const DType w_dtype = weights.gate[0].dtype;
  const internal::Blocking block = internal::blocking_for(routing.tokens, 2 * ffn * pairs.n_active,
                                                          hidden, w_dtype, context.pool.size());
  const std::int64_t row_blocks = (ffn + block.rows - 1) / block.rows;
  context.runs.parallel_for(pairs.n_active * row_blocks, [&](std::int64_t item, std::size_t thread,
                                                             std::int64_t following) {
    const Tile tile{item / row_blocks, item % row_blocks * block.rows};
    const auto expert = static_cast<std::size_t>(pairs.active[tile.index]);
    const LinearWeight& gate = weights.gate[expert];
    const LinearWeight& up = weights.up[expert];
    const std::int64_t n_rows = std::min(block.rows, ffn - tile.row);
    KernelContext::PerThread& scratch = context.per_thread[thread];
    void* unpack = scratch.unpack.get<std::byte>(unpack_bytes(n_rows, hidden));
    for (std::int64_t pair = pairs.first[tile.index]; pair < pairs.first[tile.index + 1];
         pair += block.tokens) {
      const std::int64_t n =
          std::min<std::int64_t>(block.tokens, pairs.first[tile.index + 1] - pair);
      float* sums = scratch.sums.get<float>(static_cast<std::size_t>(2 * n_rows * n));
      DotCall dot{.x = input.rows + pair,
                  .x_dtype = x.dtype,
                  .n_tokens = n,
                  .w = internal::weight_row(gate, tile.row),
                  .w_dtype = gate.dtype,
                  .n_rows = n_rows,
                  .k = hidden,
                  .sums = sums,
                  .sums_stride = 2 * n_rows,
                  .unpack = unpack};
      internal::announce(dot, up, tile.row, n_rows);
      mode.kernel.dot(dot);
      dot.w = internal::weight_row(up, tile.row);
      dot.w_dtype = up.dtype;
      dot.sums = sums + n_rows;
      dot.next = nullptr;
      if (following >= 0) {
        const auto next = static_cast<std::size_t>(pairs.active[following / row_blocks]);
        internal::announce(dot, weights.gate[next], following % row_blocks * block.rows,
                           block.rows);
      }
      mode.kernel.dot(dot);
      const float* scales = fp8_input ? input.scales + pair : nullptr;
      // W8A8 imitates kernels that round gate and up to bf16; weight-only keeps F32 to the end.
      mode.kernel.gated_store({.gate = sums,
                               .up = sums + n_rows,
                               .sums_stride = 2 * n_rows,
                               .gate_scaling = {gate.scale, scales, true},
                               .up_scaling = {up.scale, scales, true},
                               .inner_rounding = fp8_input,
                               .y = internal::part_of(h, pair, n, tile.row, n_rows)});
    }
  });
  if (!observer.down_input_amax.empty()) observe(h, pairs, observer, context.pool);

  // The down projections' input.
  const void** h_rows =
      context.pointers.get<const void*>(static_cast<std::size_t>(2 * pairs.n_pairs)) +
      pairs.n_pairs;
  internal::fill_row_addresses(h, h_rows);
  float* h_scales = nullptr;
  if (internal::reads_fp8(mode, weights.down[static_cast<std::size_t>(pairs.active[0])])) {
    const Mat copy{context.hidden_quantized.get<std::byte>(h_elements * dtype_bytes(x.dtype)),
                   x.dtype, pairs.n_pairs, ffn, ffn};
    h_scales = context.hidden_scales.get<float>(static_cast<std::size_t>(pairs.n_pairs));
    context.pool.parallel_for(static_cast<std::size_t>(pairs.n_active), [&](std::size_t index,
                                                                            std::size_t) {
      const float scale = weights.down[static_cast<std::size_t>(pairs.active[index])].input_scale;
      mode.kernel.quantize({.x = h, .static_scale = scale, .y = copy, .scales = h_scales},
                           pairs.first[index], pairs.first[index + 1]);
    });
    internal::fill_row_addresses(copy, h_rows);
  }

  // down, and the weighted sum: an item holds one block of output rows for all pairs, so the sum
  // follows while its parts are in cache.
  const std::int64_t rows = down_rows(context, pairs, weights.down[0], routing.tokens);
  context.runs.parallel_for((hidden + rows - 1) / rows, [&](std::int64_t item, std::size_t thread,
                                                            std::int64_t following) {
    const std::int64_t row = item * rows;
    const std::int64_t n_rows = std::min(rows, hidden - row);
    KernelContext::PerThread& scratch = context.per_thread[thread];
    float* sums = scratch.sums.get<float>(static_cast<std::size_t>(n_rows * pairs.n_pairs));
    const auto down_of = [&](std::int64_t index) -> const LinearWeight& {
      return weights.down[static_cast<std::size_t>(pairs.active[index])];
    };
    for (std::int64_t index = 0; index < pairs.n_active; ++index) {
      const LinearWeight& down = down_of(index);
      const std::int64_t first = pairs.first[index];
      const std::int64_t n = pairs.first[index + 1] - first;
      float* part = sums + first * n_rows;
      DotCall dot{.x = h_rows + first,
                  .x_dtype = x.dtype,
                  .n_tokens = n,
                  .w = internal::weight_row(down, row),
                  .w_dtype = down.dtype,
                  .n_rows = n_rows,
                  .k = ffn,
                  .sums = part,
                  .sums_stride = n_rows,
                  .unpack = scratch.unpack.get<std::byte>(unpack_bytes(n_rows, ffn))};
      if (index + 1 < pairs.n_active) {
        internal::announce(dot, down_of(index + 1), row, n_rows);
      } else if (following >= 0) {
        internal::announce(dot, down_of(0), following * rows, rows);
      }
      mode.kernel.dot(dot);
      mode.kernel.store(
          {.sums = part,
           .sums_stride = n_rows,
           .scaling = {down.scale, h_scales == nullptr ? nullptr : h_scales + first, true},
           .y = {part, DType::kF32, n, n_rows, n_rows}});
    }
    mode.kernel.combine({.values = sums,
                         .values_stride = n_rows,
                         .pairs = pairs.pair_of,
                         .weights = routing.weights,
                         .top_k = routing.top_k,
                         .y = internal::part_of(y, 0, routing.tokens, row, n_rows)});
  });
}

}  // namespace gem8
