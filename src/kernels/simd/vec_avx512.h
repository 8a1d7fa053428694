#pragma once

#include <immintrin.h>

#include <cstdint>

/// A vector of 16 floats. For ISA files only: everything is internal to the file that includes it,
/// because it is compiled with that file's instruction set.
namespace gem8 {
namespace {

struct Full {};  ///< all lanes
struct Part {    ///< the first n lanes; the others load as zero and are not stored
  std::int64_t n;
};

struct Vec {
  static constexpr std::int64_t kLanes = 16;
  __m512 v;
};

inline __mmask16 mask_of(Part part) {
  return static_cast<__mmask16>((1u << part.n) - 1u);
}

inline Vec splat(float value) {
  return {_mm512_set1_ps(value)};
}

inline Vec load(const float* p, Full) {
  return {_mm512_loadu_ps(p)};
}
inline Vec load(const float* p, Part part) {
  return {_mm512_maskz_loadu_ps(mask_of(part), p)};
}
inline void store(float* p, Vec a, Full) {
  _mm512_storeu_ps(p, a.v);
}
inline void store(float* p, Vec a, Part part) {
  _mm512_mask_storeu_ps(p, mask_of(part), a.v);
}

// BF16 as its 16 bits. The conversion rounds to nearest even and takes float32 subnormals (below
// 2^-126) for zero.
inline Vec widen_bits(__m256i bits) {
  return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16))};
}
inline __m256i narrow_bits(Vec a) {
  return (__m256i)_mm512_cvtneps_pbh(a.v);
}
inline Vec load(const std::uint16_t* p, Full) {
  return widen_bits(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}
inline Vec load(const std::uint16_t* p, Part part) {
  return widen_bits(_mm256_maskz_loadu_epi16(mask_of(part), p));
}
inline void store(std::uint16_t* p, Vec a, Full) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), narrow_bits(a));
}
inline void store(std::uint16_t* p, Vec a, Part part) {
  _mm256_mask_storeu_epi16(p, mask_of(part), narrow_bits(a));
}
inline Vec round_bf16(Vec a) {
  return widen_bits(narrow_bits(a));
}

inline Vec operator+(Vec a, Vec b) {
  return {_mm512_add_ps(a.v, b.v)};
}
inline Vec operator-(Vec a, Vec b) {
  return {_mm512_sub_ps(a.v, b.v)};
}
inline Vec operator*(Vec a, Vec b) {
  return {_mm512_mul_ps(a.v, b.v)};
}
inline Vec operator/(Vec a, Vec b) {
  return {_mm512_div_ps(a.v, b.v)};
}
inline Vec fma(Vec a, Vec b, Vec c) {
  return {_mm512_fmadd_ps(a.v, b.v, c.v)};
}  ///< a * b + c
inline Vec fnma(Vec a, Vec b, Vec c) {
  return {_mm512_fnmadd_ps(a.v, b.v, c.v)};
}  ///< c - a * b
inline Vec min(Vec a, Vec b) {
  return {_mm512_min_ps(a.v, b.v)};
}  ///< b where either is NaN
inline Vec max(Vec a, Vec b) {
  return {_mm512_max_ps(a.v, b.v)};
}  ///< b where either is NaN
inline Vec abs(Vec a) {
  return {_mm512_abs_ps(a.v)};
}
inline Vec round_even(Vec a) {
  return {_mm512_roundscale_ps(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)};
}
inline Vec scale_by_power(Vec a, Vec n) {
  return {_mm512_scalef_ps(a.v, n.v)};
}  ///< a * 2^n, n whole

/// Lanes 0..n-1 of a, elsewhere those of b.
inline Vec first_lanes(Vec a, std::int64_t n, Vec b) {
  const auto mask = static_cast<__mmask16>(n >= 16 ? 0xffffu : (n <= 0 ? 0u : (1u << n) - 1u));
  return {_mm512_mask_blend_ps(mask, b.v, a.v)};
}

/// The sums of four vectors. One tree for all: where a vector stands among the four changes no bit.
inline __m128 reduce_add4(Vec a, Vec b, Vec c, Vec d) {
  const __m512 ab = _mm512_add_ps(_mm512_unpacklo_ps(a.v, b.v), _mm512_unpackhi_ps(a.v, b.v));
  const __m512 cd = _mm512_add_ps(_mm512_unpacklo_ps(c.v, d.v), _mm512_unpackhi_ps(c.v, d.v));
  const __m512 abcd = _mm512_add_ps(
      _mm512_castpd_ps(_mm512_unpacklo_pd(_mm512_castps_pd(ab), _mm512_castps_pd(cd))),
      _mm512_castpd_ps(_mm512_unpackhi_pd(_mm512_castps_pd(ab), _mm512_castps_pd(cd))));
  const __m256 half = _mm256_add_ps(_mm512_castps512_ps256(abcd), _mm512_extractf32x8_ps(abcd, 1));
  return _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
}
inline float reduce_add(Vec a) {
  return _mm_cvtss_f32(reduce_add4(a, a, a, a));
}
inline float reduce_max(Vec a) {
  return _mm512_reduce_max_ps(a.v);
}

}  // namespace
}  // namespace gem8
