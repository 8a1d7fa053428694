#pragma once

#include <span>

#include "kernels/context.h"
#include "kernels/ops.h"

/// The ops only the image tower needs. Contracts: see Ops. These rows are plain code for every CPU;
/// the heavy part, the linears, is the linear family's. Each handles F32 and BF16 activations.
namespace gem8 {

void norm_rope_2d(ThreadPool& pool, const ConstMat& x, std::int64_t heads, const ParamVec& w,
                  float eps, std::span<const std::int32_t> columns,
                  std::span<const std::int32_t> rows, const RopeTable& table, const Mat& y);

void pool_patches(ThreadPool& pool, const ConstMat& x, std::span<const PatchGrid> images,
                  float factor, const ParamVec& bias, const ParamVec& scale, const Mat& y);

void clamp_values(ThreadPool& pool, const ConstMat& x, float low, float high, const Mat& y);

}  // namespace gem8
