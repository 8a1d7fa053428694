#include <cmath>

#include "kernels/element.h"
#include "kernels/rms_norm/rms_norm.h"

namespace gem8 {
namespace {

/// (mean of x^2 + eps)^-1/2
template <class T>
float inverse_rms(const T* x, std::int64_t n, float eps) {
  double sum = 0.0;
  for (std::int64_t i = 0; i < n; ++i) sum += static_cast<double>(widen(x[i])) * widen(x[i]);
  return static_cast<float>(1.0 / std::sqrt(sum / static_cast<double>(n) + eps));
}

template <class T>
float normed(const T* x, std::int64_t i, float inv_rms, const ParamVec& w, std::int64_t lane) {
  const float value = widen(x[i]) * inv_rms;
  return rounded<T>(w.data == nullptr ? value : value * param_at(w, lane));
}

void norm(const NormCall& call, std::int64_t begin, std::int64_t end) noexcept {
  with_float_type(call.x.dtype, [&]<class T>(T) {
    for (std::int64_t row = begin; row < end; ++row) {
      const T* x = row_of<T>(call.x, row);
      T* y = row_of<T>(call.y, row);
      const float inv_rms = inverse_rms(x, call.x.cols, call.eps);
      for (std::int64_t i = 0; i < call.x.cols; ++i)
        y[i] = narrow<T>(normed(x, i, inv_rms, call.w, i));
    }
  });
}

void norm_add(const NormAddCall& call, std::int64_t begin, std::int64_t end) noexcept {
  with_float_type(call.a.dtype, [&]<class T>(T) {
    for (std::int64_t row = begin; row < end; ++row) {
      const T* a = row_of<T>(call.a, row);
      const T* r = row_of<T>(call.r, row);
      T* y = row_of<T>(call.y, row);
      const float inv_rms = inverse_rms(a, call.a.cols, call.eps);
      for (std::int64_t i = 0; i < call.a.cols; ++i) {
        const float sum = rounded<T>(widen(r[i]) + normed(a, i, inv_rms, call.w, i));
        y[i] = narrow<T>(sum * call.scale);
      }
    }
  });
}

void norm_rope(const NormRopeCall& call, std::int64_t begin, std::int64_t end) noexcept {
  const std::int64_t half = call.head_dim / 2;
  with_float_type(call.x.dtype, [&]<class T>(T) {
    for (std::int64_t row = begin; row < end; ++row) {
      for (std::int64_t head = 0; head < call.heads; ++head) {
        const T* x = row_of<T>(call.x, row) + head * call.head_dim;
        T* y = row_of<T>(call.y, row) + head * call.head_dim;
        const float inv_rms = inverse_rms(x, call.head_dim, call.eps);
        for (std::int64_t j = 0; j < half; ++j) {
          const float lower = normed(x, j, inv_rms, call.w, j);
          const float upper = normed(x, j + half, inv_rms, call.w, j + half);
          if (call.cos == nullptr) {
            y[j] = narrow<T>(lower);
            y[j + half] = narrow<T>(upper);
            continue;
          }
          const float c = call.cos[row * half + j];
          const float s = call.sin[row * half + j];
          y[j] = narrow<T>(rounded<T>(lower * c) - rounded<T>(upper * s));
          y[j + half] = narrow<T>(rounded<T>(upper * c) + rounded<T>(lower * s));
        }
      }
    }
  });
}

}  // namespace

extern const RmsNormKernel rms_norm_ref;
const RmsNormKernel rms_norm_ref = {norm, norm_add, norm_rope};

}  // namespace gem8
