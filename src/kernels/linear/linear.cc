#include "kernels/linear/linear.h"

#include <algorithm>

#include "foundation/check.h"
#include "kernels/context.h"
#include "kernels/linear/linear_inputs.h"

namespace gem8 {

using internal::Blocking;
using internal::LinearInput;
using internal::LinearInputs;

#define ROW(needs, kernel, numerics) extern const LinearKernel kernel;
#include "kernels/linear/linear.inc"
#undef ROW

std::span<const isa::Row<LinearKernel>> linear_rows() {
  static const isa::Row<LinearKernel> rows[] = {
#define ROW(needs, kernel, numerics) {needs, #kernel, kernel, numerics},
#include "kernels/linear/linear.inc"
#undef ROW
  };
  return rows;
}

namespace {

std::int64_t ceil_div(std::int64_t a, std::int64_t b) {
  return (a + b - 1) / b;
}

}  // namespace

void linear(KernelContext& context, const LinearMode& mode, const ConstMat& x,
            std::span<const LinearTask> tasks) {
  GEM8_DCHECK(tasks.size() <= kMaxLinearTasks);
  if (x.rows == 0 || tasks.empty()) return;
  LinearInputs inputs(context, mode, x);
  std::int64_t total_rows = 0;
  for (const LinearTask& task : tasks) {
    inputs.add(*task.weight);
    total_rows += task.weight->out;
  }
  inputs.prepare();

  const LinearWeight& first = *tasks.front().weight;
  const Blocking block =
      internal::blocking_for(x.rows, total_rows, x.cols, first.dtype, context.pool.size());
  const std::int64_t token_blocks = ceil_div(x.rows, block.tokens);
  std::int64_t ends[kMaxLinearTasks];  // items of the tasks up to and including each
  std::int64_t n_items = 0;
  for (std::size_t i = 0; i < tasks.size(); ++i)
    ends[i] = n_items += ceil_div(tasks[i].weight->out, block.rows) * token_blocks;

  struct Place {
    std::size_t task;
    std::int64_t row;
    std::int64_t token;
  };
  const auto place_of = [&](std::int64_t item) -> Place {
    std::size_t task = 0;
    while (item >= ends[task]) ++task;
    if (task > 0) item -= ends[task - 1];
    return {task, item / token_blocks * block.rows, item % token_blocks * block.tokens};
  };

  context.runs.parallel_for(
      n_items, [&](std::int64_t item, std::size_t thread, std::int64_t following) {
        const auto [task, row, token] = place_of(item);
        const LinearWeight& weight = *tasks[task].weight;
        const LinearInput input = inputs.of(weight).from(token);
        const std::int64_t n_rows = std::min(block.rows, weight.out - row);
        const std::int64_t n_tokens = std::min(block.tokens, x.rows - token);
        KernelContext::PerThread& scratch = context.per_thread[thread];
        float* sums = scratch.sums.get<float>(static_cast<std::size_t>(n_rows * n_tokens));
        DotCall dot{.x = input.rows,
                    .x_dtype = x.dtype,
                    .n_tokens = n_tokens,
                    .w = internal::weight_row(weight, row),
                    .w_dtype = weight.dtype,
                    .n_rows = n_rows,
                    .k = weight.in,
                    .sums = sums,
                    .sums_stride = n_rows,
                    .unpack = scratch.unpack.get<std::byte>(unpack_bytes(n_rows, weight.in))};
        if (following >= 0) {
          const Place next = place_of(following);
          if (next.task != task || next.row != row)
            internal::announce(dot, *tasks[next.task].weight, next.row, block.rows);
        }
        mode.kernel.dot(dot);
        mode.kernel.store({.sums = sums,
                           .sums_stride = n_rows,
                           .scaling = {weight.scale, input.scales, false},
                           .y = internal::part_of(tasks[task].y, token, n_tokens, row, n_rows)});
      });
}

void gated_linear(KernelContext& context, const LinearMode& mode, const ConstMat& x,
                  const LinearWeight& gate, const LinearWeight& up, const Mat& y) {
  if (x.rows == 0) return;
  LinearInputs inputs(context, mode, x);
  inputs.add(gate);
  inputs.add(up);
  inputs.prepare();
  const LinearInput gate_input = inputs.of(gate);
  const LinearInput up_input = inputs.of(up);
  const Blocking block =
      internal::blocking_for(x.rows, gate.out, x.cols * 2, gate.dtype, context.pool.size());
  const std::int64_t token_blocks = ceil_div(x.rows, block.tokens);
  const std::int64_t n_items = ceil_div(gate.out, block.rows) * token_blocks;

  context.runs.parallel_for(
      n_items, [&](std::int64_t item, std::size_t thread, std::int64_t following) {
        const std::int64_t row = item / token_blocks * block.rows;
        const std::int64_t token = item % token_blocks * block.tokens;
        const std::int64_t n_rows = std::min(block.rows, gate.out - row);
        const std::int64_t n_tokens = std::min(block.tokens, x.rows - token);
        const internal::GatedTile tile{.gate = gate,
                                       .up = up,
                                       .gate_input = gate_input.from(token),
                                       .up_input = up_input.from(token),
                                       .x_dtype = x.dtype,
                                       .n_tokens = n_tokens,
                                       .row = row,
                                       .n_rows = n_rows,
                                       .token_first = false,
                                       .inner_rounding = true,
                                       .y = internal::part_of(y, token, n_tokens, row, n_rows)};
        internal::gated_tile(mode.kernel, context.per_thread[thread], tile, [&](DotCall& last) {
          const std::int64_t next_row = following / token_blocks * block.rows;
          if (following >= 0 && next_row != row)
            internal::announce(last, gate, next_row, block.rows);
        });
      });
}

}  // namespace gem8
