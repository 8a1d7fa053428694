#include "kernels/embed/embed.h"

#include <cstring>

#include "kernels/context.h"
#include "kernels/element.h"

namespace gem8 {
namespace {

void copy_row(const ConstMat& x, std::int64_t from, const Mat& y, std::int64_t to) {
  with_float_type(x.dtype, [&]<class X>(X) {
    with_float_type(y.dtype, [&]<class Y>(Y) {
      const X* source = row_of<X>(x, from);
      Y* target = row_of<Y>(y, to);
      if constexpr (std::is_same_v<X, Y>) {
        std::memcpy(target, source, static_cast<std::size_t>(x.cols) * sizeof(X));
      } else {
        for (std::int64_t i = 0; i < x.cols; ++i) target[i] = narrow<Y>(widen(source[i]));
      }
    });
  });
}

}  // namespace

void embed_rows(ThreadPool& pool, std::span<const TokenId> ids, const LinearWeight& table,
                float scale, const Mat& y) {
  const ConstMat rows{table.data, table.dtype, table.out, table.in, table.in};
  for_ranges(pool, ids.size(), rows_per_chunk(table.in),
             [&](std::size_t begin, std::size_t end, std::size_t) {
               with_float_type(table.dtype, [&]<class W>(W) {
                 with_float_type(y.dtype, [&]<class Y>(Y) {
                   for (std::size_t i = begin; i < end; ++i) {
                     const W* source = row_of<W>(rows, value_of(ids[i]));
                     Y* target = row_of<Y>(y, static_cast<std::int64_t>(i));
                     for (std::int64_t h = 0; h < table.in; ++h)
                       target[h] = narrow<Y>(widen(source[h]) * scale);
                   }
                 });
               });
             });
}

void scatter_rows(ThreadPool& pool, const ConstMat& x, std::span<const std::int32_t> rows,
                  const Mat& y) {
  for_ranges(pool, rows.size(), rows_per_chunk(x.cols),
             [&](std::size_t begin, std::size_t end, std::size_t) {
               for (std::size_t i = begin; i < end; ++i)
                 copy_row(x, static_cast<std::int64_t>(i), y, rows[i]);
             });
}

void gather_rows(ThreadPool& pool, const ConstMat& x, std::span<const std::int32_t> rows,
                 const Mat& y) {
  for_ranges(pool, rows.size(), rows_per_chunk(x.cols),
             [&](std::size_t begin, std::size_t end, std::size_t) {
               for (std::size_t i = begin; i < end; ++i)
                 copy_row(x, rows[i], y, static_cast<std::int64_t>(i));
             });
}

}  // namespace gem8
