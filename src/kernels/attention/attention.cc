#include "kernels/attention/attention.h"
#include "kernels/context.h"

#include <algorithm>

namespace gem8 {

#define ROW(needs, kernel, numerics) extern const AttentionKernel kernel;
#include "kernels/attention/attention.inc"
#undef ROW

std::span<const isa::Row<AttentionKernel>> attention_rows() {
  static const isa::Row<AttentionKernel> rows[] = {
#define ROW(needs, kernel, numerics) {needs, #kernel, kernel, numerics},
#include "kernels/attention/attention.inc"
#undef ROW
  };
  return rows;
}

namespace {

/// One tile of work: `n_rows` consecutive rows of a sequence by the query heads of one KV head.
struct Item {
  std::int32_t sequence;
  std::int32_t kv_head;
  std::int64_t row;  ///< within the sequence's rows of this step
  std::int64_t n_rows;
  std::int64_t first_split;
  std::int64_t n_splits;
  std::int64_t first_part;  ///< of the shared partial states, when splits are separate work
};

struct Problem {
  const ConstMat& q;
  const KvLayer& layer;
  const AttentionStep& step;
  const Mat& y;
  std::int64_t group;  ///< query heads of a KV head
};

void key_range(const AttentionStep& step, std::size_t sequence, std::int64_t position,
               std::int64_t& lo, std::int64_t& hi) {
  lo = step.window > 0 ? std::max<std::int64_t>(0, position - step.window + 1) : 0;
  hi = position;
  for (const ImageBlock& block : step.blocks) {
    if (block.sequence != static_cast<std::int64_t>(sequence) || position < block.first_position ||
        position >= block.first_position + block.n_tokens) {
      continue;
    }
    const SequenceRows& rows = step.sequences[sequence];
    hi = std::min(block.first_position + block.n_tokens, rows.first_position + rows.n_rows) -
         1;  // what is in the cache
  }
}

/// Fills the queries of a tile and their output addresses; returns how many.
std::int64_t gather(const Problem& problem, const Item& item, AttentionQuery* queries, void** y) {
  const SequenceRows& sequence = problem.step.sequences[static_cast<std::size_t>(item.sequence)];
  const std::size_t element = dtype_bytes(problem.q.dtype);
  std::int64_t n = 0;
  for (std::int64_t row = item.row; row < item.row + item.n_rows; ++row) {
    std::int64_t lo = 0;
    std::int64_t hi = 0;
    key_range(problem.step, static_cast<std::size_t>(item.sequence), sequence.first_position + row,
              lo, hi);
    for (std::int64_t head = item.kv_head * problem.group;
         head < (item.kv_head + 1) * problem.group; ++head, ++n) {
      const std::int64_t lane = head * problem.layer.head_dim;
      const std::int64_t batch_row = sequence.first_row + row;
      queries[n] = {static_cast<const std::byte*>(problem.q.data) +
                        static_cast<std::size_t>(batch_row * problem.q.stride + lane) * element,
                    lo, hi};
      y[n] = static_cast<std::byte*>(problem.y.data) +
             static_cast<std::size_t>(batch_row * problem.y.stride + lane) * element;
    }
  }
  return n;
}

AttentionState state_at(float* memory, std::int64_t n) {
  return {memory, memory + n, memory + 2 * n + (16 - 2 * n % 16) % 16};
}
constexpr std::int64_t state_floats(std::int64_t n, std::int64_t head_dim) {
  return (2 * n + 15) / 16 * 16 + (n * head_dim + 15) / 16 * 16;
}

}  // namespace

void attention(KernelContext& context, const AttentionKernel& kernel, const ConstMat& q,
               std::int64_t heads, const KvLayer& layer, const AttentionStep& step, const Mat& y) {
  const std::int64_t group = heads / layer.kv_heads;
  const std::int64_t head_dim = layer.head_dim;
  const std::int64_t tile_rows = std::max<std::int64_t>(1, kAttentionTileQueries / group);
  const Problem problem{q, layer, step, y, group};
  const std::int64_t max_queries = std::max(kAttentionTileQueries, group);

  std::int64_t n_items = 0;
  for (const SequenceRows& sequence : step.sequences)
    n_items += (sequence.n_rows + tile_rows - 1) / tile_rows * layer.kv_heads;
  if (n_items == 0) return;
  auto* items = context.items.get<Item>(static_cast<std::size_t>(n_items));
  std::int64_t index = 0;
  std::int64_t n_parts = 0;
  for (std::size_t s = 0; s < step.sequences.size(); ++s) {
    const SequenceRows& sequence = step.sequences[s];
    for (std::int64_t row = 0; row < sequence.n_rows; row += tile_rows) {
      const std::int64_t n_rows = std::min(tile_rows, sequence.n_rows - row);
      std::int64_t first_key = 0;
      std::int64_t last_key = 0;
      std::int64_t unused = 0;
      key_range(step, s, sequence.first_position + row, first_key, unused);
      for (std::int64_t r = row; r < row + n_rows; ++r) {
        std::int64_t hi = 0;
        key_range(step, s, sequence.first_position + r, unused, hi);
        last_key = std::max(last_key, hi);
      }
      const std::int64_t first_split = first_key / kAttentionSplitKeys;
      const std::int64_t n_splits = last_key / kAttentionSplitKeys - first_split + 1;
      for (std::int64_t head = 0; head < layer.kv_heads; ++head) {
        items[index++] = {static_cast<std::int32_t>(s),
                          static_cast<std::int32_t>(head),
                          row,
                          n_rows,
                          first_split,
                          n_splits,
                          n_parts};
        n_parts += n_splits;
      }
    }
  }

  const auto partial = [&](const Item& item, std::int64_t split, const AttentionQuery* queries,
                           std::int64_t n, const AttentionState& state, void* scratch) {
    kernel.partial({.layer = &layer,
                    .kv_head = item.kv_head,
                    .pages = step.sequences[static_cast<std::size_t>(item.sequence)].pages.data(),
                    .queries = queries,
                    .n_queries = n,
                    .key_begin = split * kAttentionSplitKeys,
                    .key_end = (split + 1) * kAttentionSplitKeys,
                    .state = state,
                    .scratch = scratch});
  };
  const std::int64_t state_size = state_floats(max_queries, head_dim);
  const auto threads = static_cast<std::int64_t>(context.pool.size());

  // Enough tiles for the threads, or nothing to split: each tile goes through its splits in turn.
  if (n_items >= 4 * threads || n_parts == n_items) {
    context.pool.parallel_for(static_cast<std::size_t>(n_items), [&](std::size_t i,
                                                                     std::size_t thread) {
      const Item& item = items[i];
      KernelContext::PerThread& scratch = context.per_thread[thread];
      float* memory = scratch.state.get<float>(static_cast<std::size_t>(2 * state_size));
      auto* work = scratch.unpack.get<std::byte>(attention_scratch_bytes(head_dim));
      auto* queries = scratch.sums.get<AttentionQuery>(static_cast<std::size_t>(2 * max_queries));
      auto** outputs = reinterpret_cast<void**>(queries + max_queries);
      const std::int64_t n = gather(problem, item, queries, outputs);
      const AttentionState total = state_at(memory, n);
      const AttentionState part = state_at(memory + state_size, n);
      partial(item, item.first_split, queries, n, total, work);
      for (std::int64_t split = 1; split < item.n_splits; ++split) {
        partial(item, item.first_split + split, queries, n, part, work);
        kernel.merge(total, part, n, head_dim);
      }
      kernel.finish(total, n, head_dim, outputs, q.dtype);
    });
    return;
  }

  // Few tiles over long contexts (decode): splits are work of their own, merged afterwards in the
  // same order as above.
  float* parts = context.partials.get<float>(static_cast<std::size_t>(n_parts * state_size));
  context.pool.parallel_for(
      static_cast<std::size_t>(n_parts), [&](std::size_t p, std::size_t thread) {
        const auto part_index = static_cast<std::int64_t>(p);
        std::int64_t i = 0;
        while (i + 1 < n_items && items[i + 1].first_part <= part_index) ++i;
        const Item& item = items[i];
        KernelContext::PerThread& scratch = context.per_thread[thread];
        auto* work = scratch.unpack.get<std::byte>(attention_scratch_bytes(head_dim));
        auto* queries = scratch.sums.get<AttentionQuery>(static_cast<std::size_t>(2 * max_queries));
        const std::int64_t n =
            gather(problem, item, queries, reinterpret_cast<void**>(queries + max_queries));
        partial(item, item.first_split + part_index - item.first_part, queries, n,
                state_at(parts + part_index * state_size, n), work);
      });
  context.pool.parallel_for(static_cast<std::size_t>(n_items), [&](std::size_t i,
                                                                   std::size_t thread) {
    const Item& item = items[i];
    auto* queries = context.per_thread[thread].sums.get<AttentionQuery>(
        static_cast<std::size_t>(2 * max_queries));
    auto** outputs = reinterpret_cast<void**>(queries + max_queries);
    const std::int64_t n = gather(problem, item, queries, outputs);
    const AttentionState total = state_at(parts + item.first_part * state_size, n);
    for (std::int64_t split = 1; split < item.n_splits; ++split) {
      kernel.merge(total, state_at(parts + (item.first_part + split) * state_size, n), n, head_dim);
    }
    kernel.finish(total, n, head_dim, outputs, q.dtype);
  });
}

}  // namespace gem8
