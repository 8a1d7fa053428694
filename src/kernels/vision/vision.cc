#include "kernels/vision/vision.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/element.h"

namespace gem8 {
namespace {

/// x^-1/2 of the mean square, in double.
template <class T>
float inverse_rms(const T* x, std::int64_t n, float eps) {
  double sum = 0.0;
  for (std::int64_t i = 0; i < n; ++i)
    sum += static_cast<double>(widen(x[i])) * static_cast<double>(widen(x[i]));
  return static_cast<float>(1.0 /
                            std::sqrt(sum / static_cast<double>(n) + static_cast<double>(eps)));
}

/// Rotates one axis' half of a head: lane j pairs with lane j + n/2.
template <class T>
void rotate_axis(const float* x, std::int32_t position, const float* inv_freq, std::int64_t n,
                 T* y) {
  for (std::int64_t j = 0; j < n / 2; ++j) {
    const float angle = static_cast<float>(position) * inv_freq[j];
    const float c = rounded<T>(std::cos(angle));
    const float s = rounded<T>(std::sin(angle));
    const float low = x[j];
    const float high = x[j + n / 2];
    y[j] = narrow<T>(rounded<T>(low * c) + rounded<T>(-high * s));
    y[j + n / 2] = narrow<T>(rounded<T>(high * c) + rounded<T>(low * s));
  }
}

}  // namespace

void norm_rope_2d(ThreadPool& pool, const ConstMat& x, std::int64_t heads, const ParamVec& w,
                  float eps, std::span<const std::int32_t> columns,
                  std::span<const std::int32_t> rows, const RopeTable& table, const Mat& y) {
  const std::int64_t axis = table.head_dim;  // lanes of one axis
  const std::int64_t head_dim = 2 * axis;
  for_ranges(pool, static_cast<std::size_t>(x.rows), rows_per_chunk(x.cols),
             [&](std::size_t begin, std::size_t end, std::size_t) {
               with_float_type(x.dtype, [&]<class T>(T) {
                 std::vector<float> normed(static_cast<std::size_t>(head_dim));
                 for (std::size_t t = begin; t < end; ++t) {
                   for (std::int64_t h = 0; h < heads; ++h) {
                     const T* from = row_of<T>(x, static_cast<std::int64_t>(t)) + h * head_dim;
                     T* to = row_of<T>(y, static_cast<std::int64_t>(t)) + h * head_dim;
                     const float factor = inverse_rms(from, head_dim, eps);
                     for (std::int64_t i = 0; i < head_dim; ++i) {
                       normed[static_cast<std::size_t>(i)] = rounded<T>(
                           widen(from[i]) * factor * (w.data == nullptr ? 1.0f : param_at(w, i)));
                     }
                     rotate_axis(normed.data(), columns[t], table.inv_freq, axis, to);
                     rotate_axis(normed.data() + axis, rows[t], table.inv_freq, axis, to + axis);
                   }
                 }
               });
             });
}

void pool_patches(ThreadPool& pool, const ConstMat& x, std::span<const PatchGrid> images,
                  float factor, const ParamVec& bias, const ParamVec& scale, const Mat& y) {
  constexpr std::int64_t kSide = 3;
  constexpr float kInvCell = 1.0f / 9.0f;
  std::int64_t first_cell = 0;
  for (const PatchGrid& image : images) {
    const std::int64_t cell_columns = image.columns / kSide;
    const std::int64_t n_cells = cell_columns * (image.rows / kSide);
    for_ranges(pool, static_cast<std::size_t>(n_cells), rows_per_chunk(x.cols),
               [&](std::size_t begin, std::size_t end, std::size_t) {
                 with_float_type(x.dtype, [&]<class T>(T) {
                   for (auto cell = static_cast<std::int64_t>(begin);
                        cell < static_cast<std::int64_t>(end); ++cell) {
                     const std::int64_t corner = image.first_row +
                                                 (cell / cell_columns) * kSide * image.columns +
                                                 (cell % cell_columns) * kSide;
                     T* to = row_of<T>(y, first_cell + cell);
                     for (std::int64_t h = 0; h < x.cols; ++h) {
                       float sum = 0.0f;
                       for (std::int64_t dy = 0; dy < kSide; ++dy) {
                         for (std::int64_t dx = 0; dx < kSide; ++dx)
                           sum +=
                               widen(row_of<T>(x, corner + dy * image.columns + dx)[h]) * kInvCell;
                       }
                       float value = rounded<T>(sum) * factor;
                       if (bias.data != nullptr)
                         value = (value - param_at(bias, h)) * param_at(scale, h);
                       to[h] = narrow<T>(value);
                     }
                   }
                 });
               });
    first_cell += n_cells;
  }
}

void clamp_values(ThreadPool& pool, const ConstMat& x, float low, float high, const Mat& y) {
  for_ranges(pool, static_cast<std::size_t>(x.rows), rows_per_chunk(x.cols),
             [&](std::size_t begin, std::size_t end, std::size_t) {
               with_float_type(x.dtype, [&]<class T>(T) {
                 for (std::size_t t = begin; t < end; ++t) {
                   const T* from = row_of<T>(x, static_cast<std::int64_t>(t));
                   T* to = row_of<T>(y, static_cast<std::int64_t>(t));
                   for (std::int64_t i = 0; i < x.cols; ++i)
                     to[i] = narrow<T>(std::clamp(widen(from[i]), low, high));
                 }
               });
             });
}

}  // namespace gem8
