#pragma once

#include <algorithm>
#include <cstdint>
#include <span>

#include "kernels/context.h"
#include "kernels/element.h"
#include "kernels/linear/linear.h"

/// How the drivers of this family read an activation matrix: by row addresses, quantised first
/// where W8A8 asks for it.
namespace gem8::internal {

struct LinearInput {
  const void* const* rows = nullptr;  ///< [tokens]
  const float* scales = nullptr;      ///< [tokens]; null: not quantised

  LinearInput from(std::int64_t token) const {
    return {rows + token, scales == nullptr ? nullptr : scales + token};
  }
};

inline bool reads_fp8(const LinearMode& mode, const LinearWeight& weight) {
  return mode.activations == Activations::kFP8 && weight.dtype == DType::kF8E4M3;
}

inline void fill_row_addresses(const ConstMat& x, const void** rows) {
  const auto row_bytes = static_cast<std::size_t>(x.stride) * dtype_bytes(x.dtype);
  const auto* address = static_cast<const std::byte*>(x.data);
  for (std::int64_t t = 0; t < x.rows; ++t)
    rows[t] = address + static_cast<std::size_t>(t) * row_bytes;
}

inline void quantize_rows(KernelContext& context, const LinearKernel& kernel,
                          const QuantizeCall& call) {
  for_ranges(context.pool, static_cast<std::size_t>(call.x.rows), rows_per_chunk(call.x.cols),
             [&](std::size_t begin, std::size_t end, std::size_t) {
               kernel.quantize(call, static_cast<std::int64_t>(begin),
                               static_cast<std::int64_t>(end));
             });
}

/// Forms the inputs that the given weights read: the matrix as it is, and one quantised copy per
/// distinct input scale.
class LinearInputs {
 public:
  static constexpr std::size_t kMaxScales =
      kMaxLinearTasks;  // usually all weights that read one input share one

  LinearInputs(KernelContext& context, const LinearMode& mode, const ConstMat& x)
      : context_(context), mode_(mode), x_(x) {}

  /// To be called for every weight before the first of().
  void add(const LinearWeight& weight) {
    if (!reads_fp8(mode_, weight) || find(weight.input_scale) < n_scales_) return;
    scales_[n_scales_++] = weight.input_scale;
  }

  void prepare() {
    const auto tokens = static_cast<std::size_t>(x_.rows);
    rows_ = context_.pointers.get<const void*>(tokens * (1 + n_scales_));
    fill_row_addresses(x_, rows_);
    if (n_scales_ == 0) return;
    const std::size_t copy_bytes =
        (tokens * static_cast<std::size_t>(x_.cols) * dtype_bytes(x_.dtype) + 63) / 64 * 64;
    auto* copies = context_.quantized.get<std::byte>(copy_bytes * n_scales_);
    token_scales_ = context_.scales.get<float>(tokens * n_scales_);
    for (std::size_t i = 0; i < n_scales_; ++i) {
      const Mat copy{copies + i * copy_bytes, x_.dtype, x_.rows, x_.cols, x_.cols};
      fill_row_addresses(copy, rows_ + (i + 1) * tokens);
      quantize_rows(
          context_, mode_.kernel,
          {.x = x_, .static_scale = scales_[i], .y = copy, .scales = token_scales_ + i * tokens});
    }
  }

  LinearInput of(const LinearWeight& weight) const {
    if (!reads_fp8(mode_, weight)) return {rows_, nullptr};
    const auto tokens = static_cast<std::size_t>(x_.rows);
    const std::size_t index = find(weight.input_scale);
    return {rows_ + (index + 1) * tokens, token_scales_ + index * tokens};
  }

 private:
  std::size_t find(float scale) const {
    std::size_t index = 0;
    while (index < n_scales_ && scales_[index] != scale) ++index;
    return index;
  }

  KernelContext& context_;
  const LinearMode& mode_;
  ConstMat x_;
  float scales_[kMaxScales] = {};
  std::size_t n_scales_ = 0;
  const void** rows_ = nullptr;
  float* token_scales_ = nullptr;
};

/// A part of an output matrix.
inline Mat part_of(const Mat& y, std::int64_t row, std::int64_t n_rows, std::int64_t col,
                   std::int64_t n_cols) {
  auto* address = static_cast<std::byte*>(y.data) +
                  static_cast<std::size_t>(row * y.stride + col) * dtype_bytes(y.dtype);
  return {address, y.dtype, n_rows, n_cols, y.stride};
}

inline const void* weight_row(const LinearWeight& weight, std::int64_t row) {
  return static_cast<const std::byte*>(weight.data) +
         static_cast<std::size_t>(row * weight.in) * dtype_bytes(weight.dtype);
}

/// Says in `dot` that rows [row, row + n_rows) of `weight` are likely to be read next.
inline void announce(DotCall& dot, const LinearWeight& weight, std::int64_t row,
                     std::int64_t n_rows) {
  dot.next = weight_row(weight, row);
  dot.next_bytes = std::min(n_rows, weight.out - row) * weight.in *
                   static_cast<std::int64_t>(dtype_bytes(weight.dtype));
}

/// Rows [row, row + n_rows) of gate and up for n_tokens tokens: both products, then
/// gelu(gate) * up.
struct GatedTile {
  const LinearWeight& gate;
  const LinearWeight& up;
  LinearInput gate_input;  ///< from the tile's first token on
  LinearInput up_input;
  DType x_dtype;
  std::int64_t n_tokens;
  std::int64_t row;
  std::int64_t n_rows;
  bool token_first;     ///< of Scaling, for both
  bool inner_rounding;  ///< of GatedStoreCall
  Mat y;                ///< [n_tokens, n_rows]
};

/// `announce_next` gets the last product's call, to say in it what will be read afterwards.
template <class AnnounceNext>
void gated_tile(const LinearKernel& kernel, KernelContext::PerThread& scratch,
                const GatedTile& tile, AnnounceNext&& announce_next) {
  const std::int64_t n_rows = tile.n_rows;
  float* sums = scratch.sums.get<float>(static_cast<std::size_t>(2 * n_rows * tile.n_tokens));
  DotCall dot{.x = tile.gate_input.rows,
              .x_dtype = tile.x_dtype,
              .n_tokens = tile.n_tokens,
              .w = weight_row(tile.gate, tile.row),
              .w_dtype = tile.gate.dtype,
              .n_rows = n_rows,
              .k = tile.gate.in,
              .sums = sums,
              .sums_stride = 2 * n_rows,
              .unpack = scratch.unpack.get<std::byte>(unpack_bytes(n_rows, tile.gate.in))};
  announce(dot, tile.up, tile.row, n_rows);
  kernel.dot(dot);
  dot.x = tile.up_input.rows;
  dot.w = weight_row(tile.up, tile.row);
  dot.w_dtype = tile.up.dtype;
  dot.sums = sums + n_rows;
  dot.next = nullptr;
  announce_next(dot);
  kernel.dot(dot);
  kernel.gated_store({.gate = sums,
                      .up = sums + n_rows,
                      .sums_stride = 2 * n_rows,
                      .gate_scaling = {tile.gate.scale, tile.gate_input.scales, tile.token_first},
                      .up_scaling = {tile.up.scale, tile.up_input.scales, tile.token_first},
                      .inner_rounding = tile.inner_rounding,
                      .y = tile.y});
}

/// Blocks of a product: how many output rows and tokens one work item takes.
struct Blocking {
  std::int64_t rows = 0;
  std::int64_t tokens = 0;
};

/// Few tokens: an item streams about 128 KiB of weights (some microseconds, long against handing it
/// out), fewer when that would leave the threads unequally busy. Many tokens: 48 weight rows stay
/// in L2 as BF16 while up to 256 tokens pass over them.
inline Blocking blocking_for(std::int64_t tokens, std::int64_t total_rows, std::int64_t k,
                             DType dtype, std::size_t threads) {
  constexpr std::int64_t kTileRows = 8;
  if (tokens > 8) return {.rows = 48, .tokens = 256};
  const std::int64_t row_bytes = k * static_cast<std::int64_t>(dtype_bytes(dtype));
  std::int64_t rows = (std::int64_t{128} << 10) / (row_bytes < 1 ? 1 : row_bytes);
  const std::int64_t share = total_rows / (static_cast<std::int64_t>(threads) * 4);
  if (rows > share) rows = share;
  rows = rows / kTileRows * kTileRows;
  return {.rows = rows < kTileRows ? kTileRows : (rows > 512 ? 512 : rows), .tokens = 8};
}

}  // namespace gem8::internal
