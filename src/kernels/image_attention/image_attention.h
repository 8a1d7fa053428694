#pragma once

#include <cstdint>
#include <span>

#include "kernels/isa/isa.h"
#include "kernels/ops.h"

namespace gem8 {

struct KernelContext;

/// Queries [begin, end) of one head of one image against all its keys:
///   y[i] = sum over j of softmax_j(q[i] · k[j]) v[j], scale 1.
///
/// Shapes: q, v, y [n, head_dim], kt (keys transposed) [head_dim, stride], stride >= n rounded up
/// to kImageKeys, with zeros in the
///         columns beyond n. scores: scratch of kImageQueries * stride floats.
/// Types:  all F32; sums in F32. A query's result does not depend on the others'.
struct ImageAttentionCall {
  const float* q = nullptr;
  const float* kt = nullptr;
  const float* v = nullptr;
  float* y = nullptr;
  float* scores = nullptr;
  std::int64_t n = 0;
  std::int64_t stride = 0;
  std::int64_t head_dim = 0;
};

inline constexpr std::int64_t kImageKeys = 32;    ///< keys are padded to a multiple of it
inline constexpr std::int64_t kImageQueries = 4;  ///< queries a variant handles together at most

struct ImageAttentionKernel {
  void (*attend)(const ImageAttentionCall&, std::int64_t begin, std::int64_t end) noexcept;
};

std::span<const isa::Row<ImageAttentionKernel>> image_attention_rows();

/// Ops::image_attention: unpacks heads to F32, then runs the kernel over blocks of queries.
void image_attention(KernelContext& context, const ImageAttentionKernel& kernel, const ConstMat& q,
                     const ConstMat& k, const ConstMat& v, std::int64_t heads,
                     std::span<const PatchGrid> images, const Mat& y);

}  // namespace gem8
