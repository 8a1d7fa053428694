#pragma once

#include "kernels/elementwise/elementwise.h"

// The family for one ISA. Include a vec_*.h and simd/math.h first.
namespace gem8 {
namespace {

template <class T, class F>
inline void each_row(const ElementwiseCall& call, std::int64_t begin, std::int64_t end, F f) {
  const bool has_b = call.b.data != nullptr;
  for (std::int64_t row = begin; row < end; ++row) {
    const T* a = static_cast<const T*>(call.a.data) + row * call.a.stride;
    const T* b = has_b ? static_cast<const T*>(call.b.data) + row * call.b.stride : a;
    T* y = static_cast<T*>(call.y.data) + row * call.y.stride;
    for_lanes(call.y.cols, [&](std::int64_t i, auto part) {
      store(y + i, f(load(a + i, part), load(b + i, part)), part);
    });
  }
}

/// formula(a, b, R) with R the rounding of the matrices' type.
template <class F>
inline void each(const ElementwiseCall& call, std::int64_t begin, std::int64_t end, F formula) {
  if (call.y.dtype == DType::kF32) {
    each_row<float>(call, begin, end,
                    [&](Vec a, Vec b) { return formula(a, b, [](Vec v) { return v; }); });
  } else {
    each_row<std::uint16_t>(call, begin, end, [&](Vec a, Vec b) {
      return formula(a, b, [](Vec v) { return round_bf16(v); });
    });
  }
}

void gelu_mul(const ElementwiseCall& call, std::int64_t begin, std::int64_t end) noexcept {
  each(call, begin, end, [](Vec a, Vec b, auto rounded) { return rounded(gelu_tanh_of(a)) * b; });
}

void add(const ElementwiseCall& call, std::int64_t begin, std::int64_t end) noexcept {
  const Vec factor = splat(call.factor);
  each(call, begin, end, [&](Vec a, Vec b, auto rounded) { return rounded(a + b) * factor; });
}

void scale(const ElementwiseCall& call, std::int64_t begin, std::int64_t end) noexcept {
  const Vec factor = splat(call.factor);
  each(call, begin, end, [&](Vec a, Vec, auto) { return a * factor; });
}

void soft_cap(const ElementwiseCall& call, std::int64_t begin, std::int64_t end) noexcept {
  const Vec cap = splat(call.factor);
  const Vec two_over_cap = splat(2.0f / call.factor);
  // tanh(u) = 1 - 2 / (e^2u + 1); its absolute error near zero, about an ulp of 1, is cap * 2^-23
  // after the product.
  each(call, begin, end, [&](Vec a, Vec, auto) {
    const Vec tanh = splat(1.0f) - splat(2.0f) / (exp_of(a * two_over_cap) + splat(1.0f));
    return cap * tanh;
  });
}

}  // namespace
}  // namespace gem8
