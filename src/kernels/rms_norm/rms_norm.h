#pragma once

#include <cstdint>
#include <span>

#include "kernels/isa/isa.h"
#include "kernels/ops.h"

namespace gem8 {

/// y[t, h] = R(x[t, h] * (mean over h of x[t, h]^2 + eps)^-1/2 * w[h]); w.data null: without the
/// factor.
///
/// Shapes: x, y [tokens, hidden], w [hidden]. y may be x. No alignment is asked.
/// Types:  x, y both F32 or both BF16; w F32 or BF16; everything inside in F32 or wider, one
/// rounding at the end. Source: Zhang and Sennrich 2019, eq. 4, with eps inside the root and w as
/// it is (Gemma 4; not 1 + w).
struct NormCall {
  ConstMat x;
  ParamVec w;
  float eps = 0.0f;
  Mat y;
};

/// y = R(R(r + R(rms_norm(a, w))) * scale). y may be r or a.
struct NormAddCall {
  ConstMat a;
  ParamVec w;
  float eps = 0.0f;
  ConstMat r;
  float scale = 1.0f;
  Mat y;
};

/// Each head of x [tokens, heads * head_dim]: n = R(rms_norm(x, w)), then with c, s of the row's
/// position
///   y[j] = R(R(n[j] c[j]) - R(n[j + head_dim/2] s[j])),  y[j + head_dim/2] = R(R(n[j + head_dim/2]
///   c[j]) + R(n[j] s[j])).
/// cos, sin: F32 [tokens, head_dim/2], already rounded to the activation dtype; null: no rotation.
/// y may be x.
struct NormRopeCall {
  ConstMat x;
  std::int64_t heads = 0;
  std::int64_t head_dim = 0;
  ParamVec w;
  float eps = 0.0f;
  const float* cos = nullptr;
  const float* sin = nullptr;
  Mat y;
};

/// One variant. Each function handles rows [begin, end).
struct RmsNormKernel {
  void (*norm)(const NormCall&, std::int64_t begin, std::int64_t end) noexcept;
  void (*norm_add)(const NormAddCall&, std::int64_t begin, std::int64_t end) noexcept;
  void (*norm_rope)(const NormRopeCall&, std::int64_t begin, std::int64_t end) noexcept;
};

std::span<const isa::Row<RmsNormKernel>> rms_norm_rows();

}  // namespace gem8
