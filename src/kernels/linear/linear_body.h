#pragma once

#include "kernels/linear/linear.h"

// The epilogues of one ISA. Include a vec_*.h, simd/math.h and an arith_*.h (for e4m3_step) first.
// For ISA files only.
namespace gem8 {
namespace {

inline Vec scaled(Vec sum, const Scaling& scaling, std::int64_t token) {
  const Vec weight_scale = splat(scaling.weight_scale);
  if (scaling.token_scales == nullptr) return weight_scale * sum;
  const Vec token_scale = splat(scaling.token_scales[token]);
  return scaling.token_first ? (token_scale * sum) * weight_scale
                             : token_scale * (weight_scale * sum);
}

/// f(address of row t) with the element type of y: float, or the 16 bits of BF16.
template <class F>
inline void with_row(const Mat& y, std::int64_t t, F f) {
  if (y.dtype == DType::kF32) {
    f(static_cast<float*>(y.data) + t * y.stride);
  } else {
    f(static_cast<std::uint16_t*>(y.data) + t * y.stride);
  }
}

void store_sums(const StoreCall& call) noexcept {
  for (std::int64_t t = 0; t < call.y.rows; ++t) {
    const float* sums = call.sums + t * call.sums_stride;
    with_row(call.y, t, [&](auto* y) {
      for_lanes(call.y.cols, [&](std::int64_t i, auto part) {
        store(y + i, scaled(load(sums + i, part), call.scaling, t), part);
      });
    });
  }
}

void store_gated(const GatedStoreCall& call) noexcept {
  const bool rounds = call.inner_rounding && call.y.dtype == DType::kBF16;
  for (std::int64_t t = 0; t < call.y.rows; ++t) {
    const float* gates = call.gate + t * call.sums_stride;
    const float* ups = call.up + t * call.sums_stride;
    with_row(call.y, t, [&](auto* y) {
      for_lanes(call.y.cols, [&](std::int64_t i, auto part) {
        const Vec gate = scaled(load(gates + i, part), call.gate_scaling, t);
        const Vec up = scaled(load(ups + i, part), call.up_scaling, t);
        const Vec value = rounds ? round_bf16(gelu_tanh_of(round_bf16(gate))) * round_bf16(up)
                                 : gelu_tanh_of(gate) * up;
        store(y + i, value, part);
      });
    });
  }
}

void combine(const CombineCall& call) noexcept {
  for (std::int64_t t = 0; t < call.y.rows; ++t) {
    const std::int32_t* pairs = call.pairs + t * call.top_k;
    const float* weights = call.weights + t * call.top_k;
    with_row(call.y, t, [&](auto* y) {
      for_lanes(call.y.cols, [&](std::int64_t i, auto part) {
        Vec sum = splat(0.0f);
        for (std::int64_t j = 0; j < call.top_k; ++j) {
          sum = fma(splat(weights[j]), load(call.values + pairs[j] * call.values_stride + i, part),
                    sum);
        }
        store(y + i, sum, part);
      });
    });
  }
}

/// The E4M3 value nearest to v, ties to even, for |v| <= 448: rounding at the value's own step
/// (2^-9 below 2^-6), which adding and taking away 1.5 * 2^23 steps does exactly.
inline Vec e4m3_round(Vec v) {
  const Vec exponent_step = e4m3_step(v);
  const Vec magic = exponent_step * splat(12582912.0f);
  return (v + magic) - magic;
}

inline Vec clamp_e4m3(Vec v) {
  // min and max give the second operand where the first is NaN: NaN becomes 448, as on the GPU.
  return max(min(v, splat(448.0f)), splat(-448.0f));
}

template <class X>
inline void quantize_row(const X* x, std::int64_t n, float static_scale, X* y, float* used_scale) {
  if (static_scale > 0.0f) {
    const Vec inv_scale = splat(1.0f / static_scale);
    for_lanes(n, [&](std::int64_t i, auto part) {
      store(y + i, e4m3_round(clamp_e4m3(load(x + i, part) * inv_scale)), part);
    });
    *used_scale = static_scale;
    return;
  }
  Vec largest = splat(0.0f);
  for_lanes(n, [&](std::int64_t i, auto part) { largest = max(abs(load(x + i, part)), largest); });
  const float candidate = reduce_max(largest) / 448.0f;
  const float smallest = 1.0f / (448.0f * 512.0f);
  const float scale = candidate > smallest ? candidate : smallest;
  for_lanes(n, [&](std::int64_t i, auto part) {
    store(y + i, e4m3_round(clamp_e4m3(load(x + i, part) / splat(scale))), part);
  });
  *used_scale = scale;
}

void quantize(const QuantizeCall& call, std::int64_t begin, std::int64_t end) noexcept {
  for (std::int64_t row = begin; row < end; ++row) {
    if (call.x.dtype == DType::kF32) {
      quantize_row(static_cast<const float*>(call.x.data) + row * call.x.stride, call.x.cols,
                   call.static_scale, static_cast<float*>(call.y.data) + row * call.y.stride,
                   call.scales + row);
    } else {
      quantize_row(static_cast<const std::uint16_t*>(call.x.data) + row * call.x.stride,
                   call.x.cols, call.static_scale,
                   static_cast<std::uint16_t*>(call.y.data) + row * call.y.stride,
                   call.scales + row);
    }
  }
}

}  // namespace
}  // namespace gem8
