#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/isa/isa.h"
#include "kernels/ops.h"

/// Products of activations and weight matrices: linear, gated linear, experts. One set of tile
/// kernels under three drivers.
///
/// Every output is a dot product over K with its own accumulators, filled in the same order
/// whatever the tile around it: results do not depend on the batch, the blocking or the threads.
namespace gem8 {

struct KernelContext;

/// sums[t * sums_stride + r] = x_t · w_r in F32, for n_tokens rows of x and n_rows rows of w.
struct DotCall {
  const void* const* x = nullptr;  ///< [n_tokens] addresses of k elements each
  DType x_dtype = DType::kBF16;    ///< kBF16 or kF32
  std::int64_t n_tokens = 0;
  const void* w = nullptr;       ///< [n_rows, k], contiguous
  DType w_dtype = DType::kBF16;  ///< kBF16, kF8E4M3 or kF32 (with F32 x only, as is F8 when x is
                                 ///< F32 in the reference row)
  std::int64_t n_rows = 0;
  std::int64_t k = 0;
  float* sums = nullptr;
  std::int64_t sums_stride = 0;
  void* unpack = nullptr;  ///< unpack_bytes(n_rows, k) of scratch
  /// Weights that this thread will probably read next: fetched towards the caches while this call
  /// computes. A hint; null: nothing known.
  const void* next = nullptr;
  std::int64_t next_bytes = 0;
};

/// How sums become values: `weight_scale * sum`, or with token scales (W8A8) token_scale *
/// (weight_scale * sum); for experts (token_scale * sum) * weight_scale, the order of the GPU
/// kernels that each imitates.
struct Scaling {
  float weight_scale = 1.0f;
  const float* token_scales = nullptr;  ///< [tokens of the tile]; null: none
  bool token_first = false;
};

/// y[t][r] = R(scaled sum). `y` is the tile's part of the output: rows x cols, BF16 or F32.
struct StoreCall {
  const float* sums = nullptr;
  std::int64_t sums_stride = 0;
  Scaling scaling;
  Mat y;
};

/// y = R(R(gelu_tanh(R(gate))) * R(up)), or R(gelu_tanh(gate) * up) without the inner roundings.
struct GatedStoreCall {
  const float* gate = nullptr;
  const float* up = nullptr;
  std::int64_t sums_stride = 0;
  Scaling gate_scaling;
  Scaling up_scaling;
  bool inner_rounding = true;
  Mat y;
};

/// E4M3 rounding of activations, kept as values of the activation dtype (which holds every E4M3
/// value). static_scale > 0: y = e4m3(clamp(x * (1 / static_scale))), NaN becomes 448. Else per
/// row: scale = max(absmax / 448, 1 / (448 * 512)), y = e4m3(x / scale). scales[row] receives the
/// scale used. Source: vLLM's FP8 quantisation kernels.
struct QuantizeCall {
  ConstMat x;
  float static_scale = 0.0f;
  Mat y;
  float* scales = nullptr;
};

/// y[t] = R(sum over i < top_k, in order, of weights[t * top_k + i] * values[pairs[t * top_k +
/// i]]), products and sum in F32.
struct CombineCall {
  const float* values = nullptr;
  std::int64_t values_stride = 0;
  const std::int32_t* pairs = nullptr;
  const float* weights = nullptr;
  std::int64_t top_k = 0;
  Mat y;
};

/// One variant.
struct LinearKernel {
  void (*dot)(const DotCall&) noexcept;
  void (*store)(const StoreCall&) noexcept;
  void (*gated_store)(const GatedStoreCall&) noexcept;
  void (*quantize)(const QuantizeCall&, std::int64_t begin, std::int64_t end) noexcept;
  void (*combine)(const CombineCall&) noexcept;
};

std::span<const isa::Row<LinearKernel>> linear_rows();

/// Scratch a dot needs for rows unpacked to BF16, padded to whole vectors.
constexpr std::size_t unpack_bytes(std::int64_t n_rows, std::int64_t k) {
  return static_cast<std::size_t>(n_rows) * static_cast<std::size_t>((k + 63) / 64 * 64) * 2;
}

/// Tasks of one linear() at most.
inline constexpr std::size_t kMaxLinearTasks = 8;

struct LinearMode {
  const LinearKernel& kernel;
  Activations activations = Activations::kBF16;
};

/// Contracts: Ops::linear, Ops::gated_linear, Ops::experts.
void linear(KernelContext& context, const LinearMode& mode, const ConstMat& x,
            std::span<const LinearTask> tasks);
void gated_linear(KernelContext& context, const LinearMode& mode, const ConstMat& x,
                  const LinearWeight& gate, const LinearWeight& up, const Mat& y);
void experts(KernelContext& context, const LinearMode& mode, const ConstMat& x,
             const Routing& routing, const ExpertWeights& weights, const Mat& y,
             const ExpertObserver& observer);

}  // namespace gem8
