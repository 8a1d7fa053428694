#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <random>
#include <vector>

#include "kernels/element.h"
#include "kernels/isa/isa.h"
#include "kernels/ops.h"

/// Random matrices of any dtype with guards around every row, for tests and benches.
namespace gem8::testing {

/// rows x cols of `dtype`, `stride` elements apart; all bytes outside the rows are a pattern that
/// check_guards() looks for.
class TestMatrix {
 public:
  static constexpr std::size_t kGuard = 64;
  static constexpr unsigned char kPattern = 0xa5;

  TestMatrix(DType dtype, std::int64_t rows, std::int64_t cols, std::int64_t padding = 0)
      : dtype_(dtype), rows_(rows), cols_(cols), stride_(cols + padding) {
    bytes_.assign(2 * kGuard + static_cast<std::size_t>(rows * stride_) * dtype_bytes(dtype),
                  kPattern);
  }

  std::int64_t rows() const { return rows_; }
  std::int64_t cols() const { return cols_; }
  Mat mat() { return {bytes_.data() + kGuard, dtype_, rows_, cols_, stride_}; }
  ConstMat view() const { return {bytes_.data() + kGuard, dtype_, rows_, cols_, stride_}; }
  ConstMat view_rows(std::int64_t first, std::int64_t n) const {
    return {address(first, 0), dtype_, n, cols_, stride_};
  }
  Mat mat_rows(std::int64_t first, std::int64_t n) {
    return {const_cast<unsigned char*>(address(first, 0)), dtype_, n, cols_, stride_};
  }
  LinearWeight weight(float scale = 1.0f, float input_scale = 0.0f) const {
    return {bytes_.data() + kGuard, dtype_, rows_, cols_, scale, input_scale};
  }
  ParamVec param() const { return {bytes_.data() + kGuard, dtype_, cols_}; }

  float at(std::int64_t row, std::int64_t col) const {
    const unsigned char* p = address(row, col);
    if (dtype_ == DType::kF8E4M3) return kE4M3Values[*p];
    if (dtype_ == DType::kBF16) {
      std::uint16_t bits;
      std::memcpy(&bits, p, 2);
      return static_cast<float>(BF16::from_bits(bits));
    }
    float value;
    std::memcpy(&value, p, 4);
    return value;
  }
  void set(std::int64_t row, std::int64_t col, float value) {
    auto* p = const_cast<unsigned char*>(address(row, col));
    if (dtype_ == DType::kF8E4M3) {
      *p = e4m3_encode(value);
    } else if (dtype_ == DType::kBF16) {
      const BF16 narrow(value);
      std::memcpy(p, &narrow, 2);
    } else {
      std::memcpy(p, &value, 4);
    }
  }
  void set_code(std::int64_t row, std::int64_t col, std::uint8_t code) {
    *const_cast<unsigned char*>(address(row, col)) = code;
  }

  TestMatrix& fill_normal(std::mt19937& random, float deviation = 1.0f) {
    std::normal_distribution<float> normal(0.0f, deviation);
    for (std::int64_t r = 0; r < rows_; ++r) {
      for (std::int64_t c = 0; c < cols_; ++c) set(r, c, normal(random));
    }
    return *this;
  }

  /// The rows' bytes, one after the other: for bitwise comparison.
  std::vector<unsigned char> row_bytes() const {
    std::vector<unsigned char> bytes;
    for (std::int64_t r = 0; r < rows_; ++r) {
      bytes.insert(bytes.end(), address(r, 0),
                   address(r, 0) + static_cast<std::size_t>(cols_) * dtype_bytes(dtype_));
    }
    return bytes;
  }

  bool guards_intact() const {
    const std::size_t element = dtype_bytes(dtype_);
    for (std::size_t i = 0; i < bytes_.size(); ++i) {
      const bool inside = i >= kGuard && i < bytes_.size() - kGuard &&
                          (i - kGuard) / element % static_cast<std::size_t>(stride_) <
                              static_cast<std::size_t>(cols_);
      if (!inside && bytes_[i] != kPattern) return false;
    }
    return true;
  }

 private:
  const unsigned char* address(std::int64_t row, std::int64_t col) const {
    return bytes_.data() + kGuard +
           static_cast<std::size_t>(row * stride_ + col) * dtype_bytes(dtype_);
  }

  DType dtype_;
  std::int64_t rows_;
  std::int64_t cols_;
  std::int64_t stride_;
  std::vector<unsigned char> bytes_;
};

/// The rows of a registry that this machine runs, at or below the level that GEM8_ISA forces.
template <class Kernel>
std::vector<isa::Row<Kernel>> runnable(std::span<const isa::Row<Kernel>> rows) {
  std::vector<isa::Row<Kernel>> result;
  const isa::Level level = isa::choose().value_or(isa::Level::kReference);
  for (const isa::Row<Kernel>& row : rows) {
    if (row.needs <= level) result.push_back(row);
  }
  return result;
}

/// How far a float32 sum of `terms` products may lie from the exact one, for any order of
/// additions: each of the additions and products rounds by at most 2^-24 of a magnitude that the
/// sum of |products| bounds.
inline double sum_bound(std::int64_t terms, double sum_of_magnitudes) {
  return static_cast<double>(terms + 2) * 0x1p-24 * sum_of_magnitudes;
}

/// One rounding to `dtype` of a value of this magnitude, plus what the value itself may be off.
inline double rounding_bound(DType dtype, double magnitude) {
  return magnitude * (dtype == DType::kBF16 ? 0x1p-8 : 0x1p-23);
}

}  // namespace gem8::testing
