#include "kernels/kv_store/kv_store.h"

#include <cstring>

#include "foundation/check.h"
#include "kernels/context.h"

namespace gem8 {

void store_kv(ThreadPool& pool, const ConstMat& k, const ConstMat& v, const KvLayer& layer,
              std::span<const SequenceRows> sequences) {
  GEM8_DCHECK(k.dtype == layer.dtype && v.dtype == layer.dtype);
  const std::size_t element = dtype_bytes(layer.dtype);
  const auto bytes = [&](std::int64_t elements) {
    return static_cast<std::size_t>(elements) * element;
  };
  const std::int64_t k_half = layer.k_lanes / 2;
  for (const SequenceRows& sequence : sequences) {
    const auto store = [&](std::size_t begin, std::size_t end, std::size_t) {
      for (auto i = static_cast<std::int64_t>(begin); i < static_cast<std::int64_t>(end); ++i) {
        const std::int64_t position = sequence.first_position + i;
        const std::int64_t page =
            sequence.pages[static_cast<std::size_t>(position / KvLayer::kPageTokens)];
        const std::int64_t slot = position % KvLayer::kPageTokens;
        const std::int64_t row = sequence.first_row + i;
        for (std::int64_t head = 0; head < layer.kv_heads; ++head) {
          const std::int64_t cell = (page * layer.kv_heads + head) * KvLayer::kPageTokens + slot;
          const std::byte* k_from =
              static_cast<const std::byte*>(k.data) + bytes(row * k.stride + head * layer.head_dim);
          const std::byte* v_from =
              static_cast<const std::byte*>(v.data) + bytes(row * v.stride + head * layer.head_dim);
          std::byte* k_to = static_cast<std::byte*>(layer.k) + bytes(cell * layer.k_lanes);
          std::byte* v_to = static_cast<std::byte*>(layer.v) + bytes(cell * layer.head_dim);
          // The first k_half lanes of each half of the head; all of them unless k_in_v.
          std::memcpy(k_to, k_from, bytes(k_half));
          std::memcpy(k_to + bytes(k_half), k_from + bytes(layer.head_dim / 2), bytes(k_half));
          std::memcpy(v_to, v_from, bytes(layer.head_dim));
        }
      }
    };
    for_ranges(pool, static_cast<std::size_t>(sequence.n_rows),
               rows_per_chunk(layer.kv_heads * layer.head_dim), store);
  }
}

}  // namespace gem8
