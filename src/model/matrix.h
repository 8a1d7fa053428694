#pragma once

#include <cstdint>

#include "backend/device.h"
#include "foundation/dtype.h"
#include "foundation/result.h"
#include "kernels/ops.h"

namespace gem8 {

/// An owned matrix on a device, rows contiguous.
class Matrix {
 public:
  Matrix() = default;

  /// Zeroed. Error: kExhausted.
  static Result<Matrix> create(Device& device, DType dtype, std::int64_t rows, std::int64_t cols) {
    Matrix matrix;
    const auto bytes = static_cast<std::size_t>(rows * cols) * dtype_bytes(dtype);
    if (bytes > 0) {
      GEM8_TRY(matrix.buffer_, device.allocate(bytes));
    }
    matrix.dtype_ = dtype;
    matrix.rows_ = rows;
    matrix.cols_ = cols;
    return matrix;
  }

  Mat mat() const { return mat(rows_, cols_); }
  /// The first `rows` rows.
  Mat mat(std::int64_t rows) const { return mat(rows, cols_); }
  /// The memory as a smaller matrix of other dimensions.
  Mat mat(std::int64_t rows, std::int64_t cols) const {
    return {buffer_.address(), dtype_, rows, cols, cols};
  }
  std::int64_t rows() const { return rows_; }
  std::int64_t cols() const { return cols_; }

 private:
  Buffer buffer_;
  DType dtype_ = DType::kF32;
  std::int64_t rows_ = 0;
  std::int64_t cols_ = 0;
};

/// Columns [first, first + cols) of a matrix.
inline ConstMat columns(const ConstMat& x, std::int64_t first, std::int64_t cols) {
  const auto* start = static_cast<const std::byte*>(x.data) +
                      static_cast<std::size_t>(first) * dtype_bytes(x.dtype);
  return {start, x.dtype, x.rows, cols, x.stride};
}

}  // namespace gem8
