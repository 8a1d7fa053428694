#pragma once

#include <array>
#include <bit>
#include <cmath>
#include <cstdint>

namespace gem8 {

/// FP8 E4M3 ("fn": no infinities): 1 sign, 4 exponent (bias 7), 3 mantissa bits; 0x7F and 0xFF are
/// NaN, 448 is the largest. Source: OCP 8-bit Floating Point Specification 1.0; equal to
/// safetensors' F8_E4M3 and torch.float8_e4m3fn.
struct E4M3 {
  std::uint8_t code = 0;
};
static_assert(sizeof(E4M3) == 1);

inline constexpr float kE4M3Max = 448.0f;

/// The exact value of a code.
constexpr float e4m3_decode(std::uint8_t code) {
  const int exponent = (code >> 3) & 15;
  const int mantissa = code & 7;
  float magnitude = 0.0f;
  if (exponent == 15 && mantissa == 7) {
    return std::bit_cast<float>((static_cast<std::uint32_t>(code & 0x80u) << 24) | 0x7fc00000u);
  }
  if (exponent == 0) {
    magnitude = static_cast<float>(mantissa) * 0x1p-9f;
  } else {
    magnitude =
        std::bit_cast<float>(static_cast<std::uint32_t>((exponent + 120) << 23 | mantissa << 20));
  }
  return (code & 0x80) != 0 ? -magnitude : magnitude;
}

/// Nearest code, ties to even, straight from float32; beyond the range (infinities too) saturates
/// to +-448; NaN gives 0x7F.
inline std::uint8_t e4m3_encode(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const auto sign = static_cast<std::uint8_t>((bits >> 24) & 0x80u);
  const std::uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return 0x7f;
  if (magnitude >= 0x43e00000u) return sign | 0x7e;  // >= 448
  if (magnitude < 0x3c800000u) {                     // < 2^-6: the subnormal step is 2^-9
    // Adding 1.5 * 2^(23-9) leaves the value in units of 2^-9, rounded to even, in the low bits of
    // the sum.
    const float shifted = std::bit_cast<float>(magnitude) + 0x1.8p14f;
    return sign | static_cast<std::uint8_t>(std::bit_cast<std::uint32_t>(shifted) & 0xfu);
  }
  const std::uint32_t rounded = magnitude + 0x7ffffu + ((magnitude >> 20) & 1u);
  return sign | static_cast<std::uint8_t>((rounded >> 20) - (120u << 3));
}

/// e4m3_decode of all 256 codes.
inline constexpr std::array<float, 256> kE4M3Values = [] {
  std::array<float, 256> values{};
  for (int code = 0; code < 256; ++code)
    values[static_cast<std::size_t>(code)] = e4m3_decode(static_cast<std::uint8_t>(code));
  return values;
}();

}  // namespace gem8
