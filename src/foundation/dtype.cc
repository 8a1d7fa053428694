#include "foundation/dtype.h"

#include <array>

namespace gem8 {
namespace {

struct Row {
  DType dtype;
  std::string_view name;
  std::size_t bytes;
};

constexpr std::array kRows{
    Row{DType::kBool, "BOOL", 1},
    Row{DType::kU8, "U8", 1},
    Row{DType::kI8, "I8", 1},
    Row{DType::kF8E4M3, "F8_E4M3", 1},
    Row{DType::kF8E4M3Fnuz, "F8_E4M3FNUZ", 1},
    Row{DType::kF8E5M2, "F8_E5M2", 1},
    Row{DType::kF8E5M2Fnuz, "F8_E5M2FNUZ", 1},
    Row{DType::kF8E8M0, "F8_E8M0", 1},
    Row{DType::kI16, "I16", 2},
    Row{DType::kU16, "U16", 2},
    Row{DType::kF16, "F16", 2},
    Row{DType::kBF16, "BF16", 2},
    Row{DType::kI32, "I32", 4},
    Row{DType::kU32, "U32", 4},
    Row{DType::kF32, "F32", 4},
    Row{DType::kI64, "I64", 8},
    Row{DType::kU64, "U64", 8},
    Row{DType::kF64, "F64", 8},
};

const Row& row(DType dtype) {
  return kRows[static_cast<std::size_t>(dtype)];
}

}  // namespace

std::size_t dtype_bytes(DType dtype) {
  return row(dtype).bytes;
}
std::string_view dtype_name(DType dtype) {
  return row(dtype).name;
}

std::optional<DType> dtype_from_name(std::string_view name) {
  for (const Row& candidate : kRows) {
    if (candidate.name == name) return candidate.dtype;
  }
  return std::nullopt;
}

float f16_to_float(std::uint16_t bits) {
  const std::uint32_t sign = static_cast<std::uint32_t>(bits & 0x8000u) << 16;
  const std::uint32_t exponent = (bits >> 10) & 0x1fu;
  const std::uint32_t mantissa = bits & 0x3ffu;
  if (exponent == 0x1f) return std::bit_cast<float>(sign | 0x7f800000u | (mantissa << 13));
  if (exponent == 0) {
    const float magnitude = static_cast<float>(mantissa) * 0x1p-24f;
    return sign != 0 ? -magnitude : magnitude;
  }
  return std::bit_cast<float>(sign | ((exponent + 112) << 23) | (mantissa << 13));
}

}  // namespace gem8
