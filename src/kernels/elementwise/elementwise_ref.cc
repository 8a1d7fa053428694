#include <cmath>

#include "kernels/element.h"
#include "kernels/elementwise/elementwise.h"

namespace gem8 {
namespace {

template <class Formula>
void each(const ElementwiseCall& call, std::int64_t begin, std::int64_t end, Formula formula) {
  with_float_type(call.y.dtype, [&]<class T>(T type) {
    for (std::int64_t row = begin; row < end; ++row) {
      const T* a = row_of<T>(call.a, row);
      const T* b = call.b.data == nullptr ? a : row_of<T>(call.b, row);
      T* y = row_of<T>(call.y, row);
      for (std::int64_t i = 0; i < call.y.cols; ++i)
        y[i] = narrow<T>(formula(type, widen(a[i]), widen(b[i])));
    }
  });
}

void gelu_mul(const ElementwiseCall& call, std::int64_t begin, std::int64_t end) noexcept {
  each(call, begin, end, []<class T>(T, float a, float b) { return rounded<T>(gelu_tanh(a)) * b; });
}

void add(const ElementwiseCall& call, std::int64_t begin, std::int64_t end) noexcept {
  each(call, begin, end,
       [&]<class T>(T, float a, float b) { return rounded<T>(a + b) * call.factor; });
}

void scale(const ElementwiseCall& call, std::int64_t begin, std::int64_t end) noexcept {
  each(call, begin, end, [&]<class T>(T, float a, float) { return a * call.factor; });
}

void soft_cap(const ElementwiseCall& call, std::int64_t begin, std::int64_t end) noexcept {
  each(call, begin, end, [&]<class T>(T, float a, float) {
    return static_cast<float>(call.factor * std::tanh(static_cast<double>(a) / call.factor));
  });
}

}  // namespace

extern const ElementwiseKernel elementwise_ref;
const ElementwiseKernel elementwise_ref = {gelu_mul, add, scale, soft_cap};

}  // namespace gem8
