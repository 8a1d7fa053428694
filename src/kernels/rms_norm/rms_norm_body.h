#pragma once

#include "kernels/rms_norm/rms_norm.h"

// The family for one ISA. Include a vec_*.h and simd/math.h first. BF16 only: float32 models use
// the reference row.
namespace gem8 {
namespace {

using Bits = std::uint16_t;

inline const Bits* bits_row(const ConstMat& m, std::int64_t row) {
  return static_cast<const Bits*>(m.data) + row * m.stride;
}
inline Bits* bits_row(const Mat& m, std::int64_t row) {
  return static_cast<Bits*>(m.data) + row * m.stride;
}

/// (mean of x^2 + eps)^-1/2. Four chains: one would wait for every addition. The order depends on n
/// alone.
inline float inverse_rms(const Bits* x, std::int64_t n, float eps) {
  constexpr std::int64_t w = Vec::kLanes;
  Vec a = splat(0.0f), b = a, c = a, d = a;
  std::int64_t i = 0;
  for (; i + 4 * w <= n; i += 4 * w) {
    const Vec x0 = load(x + i, Full{}), x1 = load(x + i + w, Full{}),
              x2 = load(x + i + 2 * w, Full{}), x3 = load(x + i + 3 * w, Full{});
    a = fma(x0, x0, a);
    b = fma(x1, x1, b);
    c = fma(x2, x2, c);
    d = fma(x3, x3, d);
  }
  for_lanes(n - i, [&](std::int64_t j, auto part) {
    const Vec value = load(x + i + j, part);
    a = fma(value, value, a);
  });
  return 1.0f / __builtin_sqrtf(reduce_add((a + b) + (c + d)) / static_cast<float>(n) + eps);
}

/// f(w) with w(i, part) the factors, in each of the three forms a weight may take.
template <class F>
inline void with_weight(const ParamVec& w, F f) {
  if (w.data == nullptr) {
    f([](std::int64_t, auto) { return splat(1.0f); });
  } else if (w.dtype == DType::kF32) {
    f([p = static_cast<const float*>(w.data)](std::int64_t i, auto part) {
      return load(p + i, part);
    });
  } else {
    f([p = static_cast<const Bits*>(w.data)](std::int64_t i, auto part) {
      return load(p + i, part);
    });
  }
}

void norm(const NormCall& call, std::int64_t begin, std::int64_t end) noexcept {
  with_weight(call.w, [&](auto w) {
    for (std::int64_t row = begin; row < end; ++row) {
      const Bits* x = bits_row(call.x, row);
      Bits* y = bits_row(call.y, row);
      const Vec inv_rms = splat(inverse_rms(x, call.x.cols, call.eps));
      for_lanes(call.x.cols, [&](std::int64_t i, auto part) {
        store(y + i, load(x + i, part) * inv_rms * w(i, part), part);
      });
    }
  });
}

void norm_add(const NormAddCall& call, std::int64_t begin, std::int64_t end) noexcept {
  const Vec scale = splat(call.scale);
  with_weight(call.w, [&](auto w) {
    for (std::int64_t row = begin; row < end; ++row) {
      const Bits* a = bits_row(call.a, row);
      const Bits* r = bits_row(call.r, row);
      Bits* y = bits_row(call.y, row);
      const Vec inv_rms = splat(inverse_rms(a, call.a.cols, call.eps));
      for_lanes(call.a.cols, [&](std::int64_t i, auto part) {
        const Vec normed = round_bf16(load(a + i, part) * inv_rms * w(i, part));
        store(y + i, round_bf16(load(r + i, part) + normed) * scale, part);
      });
    }
  });
}

void norm_rope(const NormRopeCall& call, std::int64_t begin, std::int64_t end) noexcept {
  const std::int64_t half = call.head_dim / 2;
  with_weight(call.w, [&](auto w) {
    for (std::int64_t row = begin; row < end; ++row) {
      for (std::int64_t head = 0; head < call.heads; ++head) {
        const Bits* x = bits_row(call.x, row) + head * call.head_dim;
        Bits* y = bits_row(call.y, row) + head * call.head_dim;
        const Vec inv_rms = splat(inverse_rms(x, call.head_dim, call.eps));
        for_lanes(half, [&](std::int64_t i, auto part) {
          const Vec lower = round_bf16(load(x + i, part) * inv_rms * w(i, part));
          const Vec upper = round_bf16(load(x + half + i, part) * inv_rms * w(half + i, part));
          if (call.cos == nullptr) {
            store(y + i, lower, part);
            store(y + half + i, upper, part);
            return;
          }
          const Vec c = load(call.cos + row * half + i, part);
          const Vec s = load(call.sin + row * half + i, part);
          store(y + i, round_bf16(lower * c) - round_bf16(upper * s), part);
          store(y + half + i, round_bf16(upper * c) + round_bf16(lower * s), part);
        });
      }
    }
  });
}

}  // namespace
}  // namespace gem8
