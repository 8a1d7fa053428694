#include <algorithm>
#include <cmath>

#include "kernels/element.h"
#include "kernels/linear/linear.h"

namespace gem8 {
namespace {

template <class X, class W>
float dot_product(const X* x, const W* w, std::int64_t k) {
  double sums[4] = {};  // four chains: a single one would wait for every addition
  std::int64_t i = 0;
  for (; i + 4 <= k; i += 4) {
    for (int lane = 0; lane < 4; ++lane)
      sums[lane] += static_cast<double>(widen(x[i + lane])) * widen(w[i + lane]);
  }
  for (; i < k; ++i) sums[0] += static_cast<double>(widen(x[i])) * widen(w[i]);
  return static_cast<float>((sums[0] + sums[1]) + (sums[2] + sums[3]));
}

template <class X, class W>
void dot_typed(const DotCall& call) {
  for (std::int64_t r = 0; r < call.n_rows; ++r) {
    const W* w = static_cast<const W*>(call.w) + r * call.k;
    for (std::int64_t t = 0; t < call.n_tokens; ++t) {
      call.sums[t * call.sums_stride + r] =
          dot_product(static_cast<const X*>(call.x[t]), w, call.k);
    }
  }
}

void dot(const DotCall& call) noexcept {
  with_float_type(call.x_dtype, [&]<class X>(X) {
    if (call.w_dtype == DType::kF8E4M3) return dot_typed<X, E4M3>(call);
    if (call.w_dtype == DType::kF32) return dot_typed<X, float>(call);
    dot_typed<X, BF16>(call);
  });
}

float scaled(const Scaling& scaling, std::int64_t token, float sum) {
  if (scaling.token_scales == nullptr) return scaling.weight_scale * sum;
  const float token_scale = scaling.token_scales[token];
  return scaling.token_first ? (token_scale * sum) * scaling.weight_scale
                             : token_scale * (scaling.weight_scale * sum);
}

void store(const StoreCall& call) noexcept {
  with_float_type(call.y.dtype, [&]<class T>(T) {
    for (std::int64_t t = 0; t < call.y.rows; ++t) {
      T* y = row_of<T>(call.y, t);
      const float* sums = call.sums + t * call.sums_stride;
      for (std::int64_t r = 0; r < call.y.cols; ++r)
        y[r] = narrow<T>(scaled(call.scaling, t, sums[r]));
    }
  });
}

void gated_store(const GatedStoreCall& call) noexcept {
  with_float_type(call.y.dtype, [&]<class T>(T) {
    for (std::int64_t t = 0; t < call.y.rows; ++t) {
      T* y = row_of<T>(call.y, t);
      for (std::int64_t r = 0; r < call.y.cols; ++r) {
        const float gate = scaled(call.gate_scaling, t, call.gate[t * call.sums_stride + r]);
        const float up = scaled(call.up_scaling, t, call.up[t * call.sums_stride + r]);
        y[r] =
            narrow<T>(call.inner_rounding ? rounded<T>(gelu_tanh(rounded<T>(gate))) * rounded<T>(up)
                                          : gelu_tanh(gate) * up);
      }
    }
  });
}

void quantize(const QuantizeCall& call, std::int64_t begin, std::int64_t end) noexcept {
  with_float_type(call.x.dtype, [&]<class T>(T) {
    for (std::int64_t row = begin; row < end; ++row) {
      const T* x = row_of<T>(call.x, row);
      T* y = row_of<T>(call.y, row);
      float scale = call.static_scale;
      if (scale > 0.0f) {
        const float inv_scale = 1.0f / scale;
        for (std::int64_t i = 0; i < call.x.cols; ++i) {
          // fmin and fmax return the number when the other is NaN: NaN becomes 448, as on the GPU.
          const float clamped = std::fmax(std::fmin(widen(x[i]) * inv_scale, kE4M3Max), -kE4M3Max);
          y[i] = narrow<T>(e4m3_decode(e4m3_encode(clamped)));
        }
      } else {
        float largest = 0.0f;
        for (std::int64_t i = 0; i < call.x.cols; ++i)
          largest = std::fmax(largest, std::fabs(widen(x[i])));
        scale = std::max(largest / kE4M3Max, 1.0f / (kE4M3Max * 512.0f));
        for (std::int64_t i = 0; i < call.x.cols; ++i) {
          const float clamped = std::fmax(std::fmin(widen(x[i]) / scale, kE4M3Max), -kE4M3Max);
          y[i] = narrow<T>(e4m3_decode(e4m3_encode(clamped)));
        }
      }
      call.scales[row] = scale;
    }
  });
}

void combine(const CombineCall& call) noexcept {
  with_float_type(call.y.dtype, [&]<class T>(T) {
    for (std::int64_t t = 0; t < call.y.rows; ++t) {
      T* y = row_of<T>(call.y, t);
      for (std::int64_t r = 0; r < call.y.cols; ++r) {
        float sum = 0.0f;
        for (std::int64_t i = t * call.top_k; i < (t + 1) * call.top_k; ++i) {
          sum += call.weights[i] * call.values[call.pairs[i] * call.values_stride + r];
        }
        y[r] = narrow<T>(sum);
      }
    }
  });
}

}  // namespace

extern const LinearKernel linear_ref;
const LinearKernel linear_ref = {dot, store, gated_store, quantize, combine};

}  // namespace gem8
