#include "kernels/elementwise/elementwise.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <cmath>

#include "kernels/context.h"
#include "kernels/element.h"

namespace gem8 {

#define ROW(needs, kernel, numerics) extern const ElementwiseKernel kernel;
#include "kernels/elementwise/elementwise.inc"
#undef ROW

std::span<const isa::Row<ElementwiseKernel>> elementwise_rows() {
  static const isa::Row<ElementwiseKernel> rows[] = {
#define ROW(needs, kernel, numerics) {needs, #kernel, kernel, numerics},
#include "kernels/elementwise/elementwise.inc"
#undef ROW
  };
  return rows;
}

float absmax(ThreadPool& pool, const ConstMat& x) {
  // Magnitudes of floats order like their bits, so NaN (above infinity) wins every comparison and
  // is made infinity at the end.
  std::atomic<std::uint32_t> largest{0};
  for_ranges(pool, static_cast<std::size_t>(x.rows), rows_per_chunk(x.cols, 1 << 18),
             [&](std::size_t begin, std::size_t end, std::size_t) {
               const std::uint32_t here = with_float_type(x.dtype, [&]<class T>(T) {
                 std::uint32_t bits = 0;
                 for (std::size_t row = begin; row < end; ++row) {
                   const T* values = row_of<T>(x, static_cast<std::int64_t>(row));
                   for (std::int64_t i = 0; i < x.cols; ++i)
                     bits = std::max(bits,
                                     std::bit_cast<std::uint32_t>(widen(values[i])) & 0x7fffffffu);
                 }
                 return bits;
               });
               std::uint32_t seen = largest.load(std::memory_order_relaxed);
               while (here > seen && !largest.compare_exchange_weak(seen, here)) {
               }
             });
  return std::bit_cast<float>(std::min(largest.load(), 0x7f800000u));
}

}  // namespace gem8
