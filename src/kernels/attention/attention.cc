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

/// Keys [lo, hi] of one query.
struct KeyRange {
  std::int64_t lo;
  std::int64_t hi;
};

KeyRange key_range(const AttentionStep& step, std::size_t sequence, std::int64_t position) {
  KeyRange range{step.window > 0 ? std::max<std::int64_t>(0, position - step.window + 1) : 0,
                 position};
  for (const ImageBlock& block : step.blocks) {
    if (block.sequence != static_cast<std::int64_t>(sequence) || position < block.first_position ||
        position >= block.first_position + block.n_tokens) {
      continue;
    }
    const SequenceRows& rows = step.sequences[sequence];
    range.hi = std::min(block.first_position + block.n_tokens, rows.first_position + rows.n_rows) -
               1;  // what is in the cache
  }
  return range;
}

AttentionState state_at(float* memory, std::int64_t n) {
  return {memory, memory + n, memory + 2 * n + (16 - 2 * n % 16) % 16};
}
constexpr std::int64_t state_floats(std::int64_t n, std::int64_t head_dim) {
  return (2 * n + 15) / 16 * 16 + (n * head_dim + 15) / 16 * 16;
}

/// One call of attention().
class Pass {
 public:
  Pass(KernelContext& context, const AttentionKernel& kernel, const ConstMat& q, std::int64_t heads,
       const KvLayer& layer, const AttentionStep& step, const Mat& y)
      : context_(context),
        kernel_(kernel),
        q_(q),
        layer_(layer),
        step_(step),
        y_(y),
        group_(heads / layer.kv_heads),
        tile_rows_(std::max<std::int64_t>(1, kAttentionTileQueries / group_)),
        max_queries_(std::max(kAttentionTileQueries, group_)),
        state_size_(state_floats(max_queries_, layer.head_dim)) {}

  void run() {
    plan();
    if (n_items_ == 0) return;
    const auto threads = static_cast<std::int64_t>(context_.pool.size());
    // Enough tiles for the threads, or nothing to split: each tile goes through its splits in turn.
    if (n_items_ >= 4 * threads || n_parts_ == n_items_) {
      tile_by_tile();
    } else {
      split_by_split();
    }
  }

 private:
  /// The queries of a tile and where their results go, in a thread's scratch.
  struct Queries {
    AttentionQuery* queries;
    void** outputs;
    std::int64_t n;
  };

  void plan() {
    std::int64_t n_items = 0;
    for (const SequenceRows& sequence : step_.sequences)
      n_items += (sequence.n_rows + tile_rows_ - 1) / tile_rows_ * layer_.kv_heads;
    items_ = context_.items.get<Item>(static_cast<std::size_t>(n_items));
    for (std::size_t s = 0; s < step_.sequences.size(); ++s) {
      const std::int64_t n_rows = step_.sequences[s].n_rows;
      for (std::int64_t row = 0; row < n_rows; row += tile_rows_)
        plan_tile(s, row, std::min(tile_rows_, n_rows - row));
    }
  }

  void plan_tile(std::size_t sequence, std::int64_t row, std::int64_t n_rows) {
    const std::int64_t position = step_.sequences[sequence].first_position + row;
    const std::int64_t first_key = key_range(step_, sequence, position).lo;
    std::int64_t last_key = 0;
    for (std::int64_t r = 0; r < n_rows; ++r)
      last_key = std::max(last_key, key_range(step_, sequence, position + r).hi);
    const std::int64_t first_split = first_key / kAttentionSplitKeys;
    const std::int64_t n_splits = last_key / kAttentionSplitKeys - first_split + 1;
    for (std::int64_t head = 0; head < layer_.kv_heads; ++head) {
      items_[n_items_++] = {static_cast<std::int32_t>(sequence),
                            static_cast<std::int32_t>(head),
                            row,
                            n_rows,
                            first_split,
                            n_splits,
                            n_parts_};
      n_parts_ += n_splits;
    }
  }

  void tile_by_tile() {
    const std::int64_t head_dim = layer_.head_dim;
    context_.pool.parallel_for(static_cast<std::size_t>(n_items_), [&](std::size_t i,
                                                                       std::size_t thread) {
      const Item& item = items_[i];
      float* memory =
          context_.per_thread[thread].state.get<float>(static_cast<std::size_t>(2 * state_size_));
      const Queries tile = gather(item, thread);
      const AttentionState total = state_at(memory, tile.n);
      const AttentionState part = state_at(memory + state_size_, tile.n);
      partial(item, 0, tile, total, thread);
      for (std::int64_t split = 1; split < item.n_splits; ++split) {
        partial(item, split, tile, part, thread);
        kernel_.merge(total, part, tile.n, head_dim);
      }
      kernel_.finish(total, tile.n, head_dim, tile.outputs, q_.dtype);
    });
  }

  /// Few tiles over long contexts (decode): splits are work of their own, merged afterwards in the
  /// same order as in tile_by_tile().
  void split_by_split() {
    const std::int64_t head_dim = layer_.head_dim;
    float* parts = context_.partials.get<float>(static_cast<std::size_t>(n_parts_ * state_size_));
    context_.pool.parallel_for(static_cast<std::size_t>(n_parts_),
                               [&](std::size_t p, std::size_t thread) {
                                 const auto part = static_cast<std::int64_t>(p);
                                 const Item* item = items_;
                                 while (item + 1 < items_ + n_items_ && item[1].first_part <= part)
                                   ++item;
                                 const Queries tile = gather(*item, thread);
                                 partial(*item, part - item->first_part, tile,
                                         state_at(parts + part * state_size_, tile.n), thread);
                               });
    context_.pool.parallel_for(
        static_cast<std::size_t>(n_items_), [&](std::size_t i, std::size_t thread) {
          const Item& item = items_[i];
          const Queries tile = gather(item, thread);
          float* memory = parts + item.first_part * state_size_;
          const AttentionState total = state_at(memory, tile.n);
          for (std::int64_t split = 1; split < item.n_splits; ++split)
            kernel_.merge(total, state_at(memory + split * state_size_, tile.n), tile.n, head_dim);
          kernel_.finish(total, tile.n, head_dim, tile.outputs, q_.dtype);
        });
  }

  Queries gather(const Item& item, std::size_t thread) const {
    auto* queries = context_.per_thread[thread].sums.get<AttentionQuery>(
        static_cast<std::size_t>(2 * max_queries_));
    Queries tile{queries, reinterpret_cast<void**>(queries + max_queries_), 0};
    const auto s = static_cast<std::size_t>(item.sequence);
    const SequenceRows& sequence = step_.sequences[s];
    const std::size_t element = dtype_bytes(q_.dtype);
    for (std::int64_t row = item.row; row < item.row + item.n_rows; ++row) {
      const KeyRange keys = key_range(step_, s, sequence.first_position + row);
      const std::int64_t batch_row = sequence.first_row + row;
      for (std::int64_t head = item.kv_head * group_; head < (item.kv_head + 1) * group_; ++head) {
        const std::int64_t lane = head * layer_.head_dim;
        tile.queries[tile.n] = {
            static_cast<const std::byte*>(q_.data) +
                static_cast<std::size_t>(batch_row * q_.stride + lane) * element,
            keys.lo, keys.hi};
        tile.outputs[tile.n++] = static_cast<std::byte*>(y_.data) +
                                 static_cast<std::size_t>(batch_row * y_.stride + lane) * element;
      }
    }
    return tile;
  }

  /// The state of a tile over the keys of one of its splits.
  void partial(const Item& item, std::int64_t split, const Queries& tile,
               const AttentionState& state, std::size_t thread) const {
    const std::int64_t first = (item.first_split + split) * kAttentionSplitKeys;
    kernel_.partial({.layer = &layer_,
                     .kv_head = item.kv_head,
                     .pages = step_.sequences[static_cast<std::size_t>(item.sequence)].pages.data(),
                     .queries = tile.queries,
                     .n_queries = tile.n,
                     .key_begin = first,
                     .key_end = first + kAttentionSplitKeys,
                     .state = state,
                     .scratch = context_.per_thread[thread].unpack.get<std::byte>(
                         attention_scratch_bytes(layer_.head_dim))});
  }

  KernelContext& context_;
  const AttentionKernel& kernel_;
  const ConstMat& q_;
  const KvLayer& layer_;
  const AttentionStep& step_;
  const Mat& y_;
  const std::int64_t group_;  ///< query heads of a KV head
  const std::int64_t tile_rows_;
  const std::int64_t max_queries_;
  const std::int64_t state_size_;
  Item* items_ = nullptr;
  std::int64_t n_items_ = 0;
  std::int64_t n_parts_ = 0;
};

}  // namespace

void attention(KernelContext& context, const AttentionKernel& kernel, const ConstMat& q,
               std::int64_t heads, const KvLayer& layer, const AttentionStep& step, const Mat& y) {
  Pass(context, kernel, q, heads, layer, step, y).run();
}

}  // namespace gem8
