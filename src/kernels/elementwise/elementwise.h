#pragma once

#include <cstdint>
#include <span>

#include "kernels/isa/isa.h"
#include "kernels/ops.h"

namespace gem8 {

/// a, b, y of one shape, all F32 or all BF16; y may be a or b.
struct ElementwiseCall {
  ConstMat a;
  ConstMat b;           ///< gelu_mul, add
  float factor = 1.0f;  ///< add, scale; the cap of soft_cap
  Mat y;
};

/// One variant. Each function handles rows [begin, end).
struct ElementwiseKernel {
  using Function = void (*)(const ElementwiseCall&, std::int64_t begin, std::int64_t end) noexcept;
  Function gelu_mul;  ///< y = R(R(gelu_tanh(a)) * b)
  Function add;       ///< y = R(R(a + b) * factor)
  Function scale;     ///< y = R(a * factor)
  Function soft_cap;  ///< y = factor * tanh(a / factor), F32
};

std::span<const isa::Row<ElementwiseKernel>> elementwise_rows();

/// The largest |x|; NaN counts as infinity.
float absmax(ThreadPool& pool, const ConstMat& x);

}  // namespace gem8
