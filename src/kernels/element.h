#pragma once

#include <cstdint>

#include "foundation/dtype.h"
#include "foundation/fp8.h"
#include "kernels/ops.h"

/// Scalar access to typed matrices, for reference rows and for work too small to matter. Never
/// included by an ISA file.
namespace gem8 {

inline float widen(float value) {
  return value;
}
inline float widen(BF16 value) {
  return static_cast<float>(value);
}
inline float widen(E4M3 value) {
  return kE4M3Values[value.code];
}

template <class T>
T narrow(float value) {
  return static_cast<T>(value);
}

/// R(value): rounding to the element type T.
template <class T>
float rounded(float value) {
  return widen(narrow<T>(value));
}

template <class T>
const T* row_of(const ConstMat& matrix, std::int64_t row) {
  return static_cast<const T*>(matrix.data) + row * matrix.stride;
}
template <class T>
T* row_of(const Mat& matrix, std::int64_t row) {
  return static_cast<T*>(matrix.data) + row * matrix.stride;
}

/// Calls f(T{}) with the C++ type of an activation or parameter dtype (F32, else BF16).
template <class F>
decltype(auto) with_float_type(DType dtype, F&& f) {
  return dtype == DType::kF32 ? f(float{}) : f(BF16{});
}

inline float param_at(const ParamVec& vec, std::int64_t index) {
  return vec.dtype == DType::kF32 ? static_cast<const float*>(vec.data)[index]
                                  : widen(static_cast<const BF16*>(vec.data)[index]);
}

/// 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))), evaluated in double.
inline float gelu_tanh(float x) {
  const double value = x;
  return static_cast<float>(
      0.5 * value *
      (1.0 + std::tanh(0.7978845608028654 * (value + 0.044715 * value * value * value))));
}

}  // namespace gem8
