#pragma once

#include "kernels/linear/tile_body.h"

// Arithmetics of the AVX2 tiles; include simd/vec_avx2.h first. For ISA files only.
namespace gem8 {
namespace {

/// The spacing of E4M3 values around v: 2^(exponent - 3), at least 2^-9. The exponent field alone
/// is the power of two below |v|.
inline Vec e4m3_step(Vec v) {
  const Vec power = {_mm256_and_ps(v.v, _mm256_castsi256_ps(_mm256_set1_epi32(0x7f800000)))};
  return max(power, splat(0x1p-6f)) * splat(0.125f);
}

struct NoConstants {};

/// Eight E4M3 codes as floats. Exponent and mantissa moved into place make the value times 2^-120,
/// subnormals included (they are float32 subnormals there), and the multiplication is exact.
inline Vec decode(__m128i bytes) {
  const __m256i codes = _mm256_cvtepu8_epi32(bytes);
  const __m256i magnitude = _mm256_and_si256(codes, _mm256_set1_epi32(0x7f));
  const __m256i sign = _mm256_slli_epi32(_mm256_andnot_si256(_mm256_set1_epi32(0x7f), codes), 24);
  const __m256i is_nan = _mm256_cmpeq_epi32(magnitude, _mm256_set1_epi32(0x7f));
  const __m256i placed = _mm256_or_si256(sign, _mm256_slli_epi32(magnitude, 20));
  const __m256 value = _mm256_mul_ps(_mm256_castsi256_ps(placed), _mm256_set1_ps(0x1p120f));
  return {_mm256_or_ps(value, _mm256_castsi256_ps(is_nan))};
}

inline Vec load_weight(const std::uint8_t* p, Full) {
  return decode(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
}
inline Vec load_weight(const std::uint8_t* p, Part part) {
  alignas(16) std::uint8_t lanes[16] = {};
  for (std::int64_t i = 0; i < part.n; ++i) lanes[i] = p[i];
  return decode(_mm_load_si128(reinterpret_cast<const __m128i*>(lanes)));
}
template <class W, class P>
inline Vec load_weight(const W* p, P part) {
  return load(p, part);
}

template <class XType, class WType>
struct F32Arith {
  using X = XType;
  using W = WType;
  using Constants = NoConstants;
  using WVec = Vec;
  static constexpr bool kWeightsFirst = false;
  static constexpr std::int64_t kStep = 8;
  static constexpr std::int64_t max_tokens(bool) { return 3; }
  static constexpr int tile_rows(int tokens, bool) { return tokens > 1 ? 4 : 8; }

  static Constants constants() { return {}; }
  static Vec load_x(const X* p) { return load(p, Full{}); }
  static Vec load_x_part(const X* p, std::int64_t n) { return load(p, Part{n}); }
  static Vec load_w(Constants, const W* p) { return load_weight(p, Full{}); }
  static Vec load_w_part(Constants, const W* p, std::int64_t n) { return load_weight(p, Part{n}); }
  static Vec dot(Vec acc, Vec x, Vec w) { return fma(x, w, acc); }
  static Vec dot_part(Vec acc, Vec x, Vec w, std::int64_t) { return dot(acc, x, w); }
};

using Bf16ByBf16 = F32Arith<std::uint16_t, std::uint16_t>;

}  // namespace
}  // namespace gem8
