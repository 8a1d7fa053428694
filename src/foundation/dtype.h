#pragma once

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace gem8 {

/// Element types a checkpoint may hold. Names are those of safetensors.
enum class DType : std::uint8_t {
  kBool,
  kU8,
  kI8,
  kF8E4M3,
  kF8E4M3Fnuz,
  kF8E5M2,
  kF8E5M2Fnuz,
  kF8E8M0,
  kI16,
  kU16,
  kF16,
  kBF16,
  kI32,
  kU32,
  kF32,
  kI64,
  kU64,
  kF64,
};

/// Bytes of one element.
std::size_t dtype_bytes(DType dtype);
/// "F8_E4M3"; dtype_from_name is its inverse.
std::string_view dtype_name(DType dtype);
std::optional<DType> dtype_from_name(std::string_view name);

/// bfloat16: the upper half of a float32. Conversion from float rounds to nearest, ties to even;
/// NaN stays NaN.
struct BF16 {
  std::uint16_t bits = 0;

  BF16() = default;
  explicit BF16(float value) : bits(round_bits(value)) {}
  static constexpr BF16 from_bits(std::uint16_t bits) {
    BF16 result;
    result.bits = bits;
    return result;
  }
  explicit operator float() const {
    return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16);
  }

 private:
  static std::uint16_t round_bits(float value) {
    const auto raw = std::bit_cast<std::uint32_t>(value);
    if ((raw & 0x7fffffffu) > 0x7f800000u) return static_cast<std::uint16_t>((raw >> 16) | 0x40u);
    return static_cast<std::uint16_t>((raw + 0x7fffu + ((raw >> 16) & 1u)) >> 16);
  }
};
static_assert(sizeof(BF16) == 2);

/// R(x) of the specifications: the float32 nearest to x that bfloat16 can hold.
inline float round_to_bf16(float value) {
  return static_cast<float>(BF16(value));
}

/// IEEE binary16 to float32, exact.
float f16_to_float(std::uint16_t bits);

}  // namespace gem8
