#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "foundation/dtype.h"
#include "foundation/fp8.h"

namespace gem8 {

/// The scale of values whose largest magnitude is `amax`: amax / 448 in float32, and 1 / 448 for 0
/// (so that an all-zero tensor has zero codes and an ordinary scale).
float scale_of(float amax);

/// Whether encode_weights() and weights_amax() read this element type: BF16, F16, F32.
bool is_weight_dtype(DType dtype);

/// The largest magnitude of `values` (of `dtype`, little-endian, any alignment); +infinity when one
/// of them is infinite or NaN.
float weights_amax(DType dtype, std::span<const std::byte> values) noexcept;

/// codes[i] = e4m3_encode(float(values[i]) / scale): a true float32 division, ties to even,
/// saturating. `values` as above; `codes` has as many entries. Bit for bit the same whatever the
/// CPU: the vector forms are the same source compiled for wider registers. Source: fp8 checkpoints
/// of vLLM and AutoFP8, with the scale in float32 rather than bfloat16.
void encode_weights(DType dtype, std::span<const std::byte> values, float scale,
                    std::span<std::uint8_t> codes) noexcept;

/// The largest magnitude code (0..0x7F; 0x7F is NaN) of `codes`.
std::uint8_t largest_code(std::span<const std::byte> codes) noexcept;

/// How far quantised weights are from their originals.
struct WeightError {
  double original_square = 0.0;  ///< sum of w^2
  double error_square = 0.0;     ///< sum of (code * scale - w)^2
  double product = 0.0;          ///< sum of (code * scale) * w
  double stored_square = 0.0;    ///< sum of (code * scale)^2

  void add(const WeightError& other);
};
/// Sums over two equally long runs of elements; NaN codes count as +-480. `dtype` is that of
/// `originals`.
WeightError weight_error(std::span<const std::byte> codes, float scale, DType dtype,
                         std::span<const std::byte> originals) noexcept;

}  // namespace gem8
