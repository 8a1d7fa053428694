#pragma once

#include <immintrin.h>

#include <cstdint>

/// A vector of 8 floats; the same face as vec_avx512.h. For ISA files only.
namespace gem8 {
namespace {

struct Full {};
struct Part {
  std::int64_t n;
};

struct Vec {
  static constexpr std::int64_t kLanes = 8;
  __m256 v;
};

inline __m256i mask_of(Part part) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(part.n)),
                            _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

inline Vec splat(float value) {
  return {_mm256_set1_ps(value)};
}

inline Vec load(const float* p, Full) {
  return {_mm256_loadu_ps(p)};
}
inline Vec load(const float* p, Part part) {
  return {_mm256_maskload_ps(p, mask_of(part))};
}
inline void store(float* p, Vec a, Full) {
  _mm256_storeu_ps(p, a.v);
}
inline void store(float* p, Vec a, Part part) {
  _mm256_maskstore_ps(p, mask_of(part), a.v);
}

inline Vec widen_bits(__m128i bits) {
  return {_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16))};
}
/// Round to nearest even; a NaN keeps its upper bits and is made quiet.
inline __m128i narrow_bits(Vec a) {
  const __m256i raw = _mm256_castps_si256(a.v);
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(raw, 16), _mm256_set1_epi32(1));
  const __m256i rounded = _mm256_srli_epi32(
      _mm256_add_epi32(raw, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff))), 16);
  const __m256i quiet = _mm256_or_si256(_mm256_srli_epi32(raw, 16), _mm256_set1_epi32(0x40));
  const __m256i is_nan = _mm256_castps_si256(_mm256_cmp_ps(a.v, a.v, _CMP_UNORD_Q));
  const __m256i words = _mm256_blendv_epi8(rounded, quiet, is_nan);
  return _mm_packus_epi32(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
}
inline Vec load(const std::uint16_t* p, Full) {
  return widen_bits(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}
inline Vec load(const std::uint16_t* p, Part part) {
  alignas(16) std::uint16_t lanes[8] = {};
  for (std::int64_t i = 0; i < part.n; ++i) lanes[i] = p[i];
  return widen_bits(_mm_load_si128(reinterpret_cast<const __m128i*>(lanes)));
}
inline void store(std::uint16_t* p, Vec a, Full) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), narrow_bits(a));
}
inline void store(std::uint16_t* p, Vec a, Part part) {
  alignas(16) std::uint16_t lanes[8];
  _mm_store_si128(reinterpret_cast<__m128i*>(lanes), narrow_bits(a));
  for (std::int64_t i = 0; i < part.n; ++i) p[i] = lanes[i];
}
inline Vec round_bf16(Vec a) {
  return widen_bits(narrow_bits(a));
}

inline Vec operator+(Vec a, Vec b) {
  return {_mm256_add_ps(a.v, b.v)};
}
inline Vec operator-(Vec a, Vec b) {
  return {_mm256_sub_ps(a.v, b.v)};
}
inline Vec operator*(Vec a, Vec b) {
  return {_mm256_mul_ps(a.v, b.v)};
}
inline Vec operator/(Vec a, Vec b) {
  return {_mm256_div_ps(a.v, b.v)};
}
inline Vec fma(Vec a, Vec b, Vec c) {
  return {_mm256_fmadd_ps(a.v, b.v, c.v)};
}
inline Vec fnma(Vec a, Vec b, Vec c) {
  return {_mm256_fnmadd_ps(a.v, b.v, c.v)};
}
inline Vec min(Vec a, Vec b) {
  return {_mm256_min_ps(a.v, b.v)};
}
inline Vec max(Vec a, Vec b) {
  return {_mm256_max_ps(a.v, b.v)};
}
inline Vec abs(Vec a) {
  return {_mm256_andnot_ps(_mm256_set1_ps(-0.0f), a.v)};
}
inline Vec round_even(Vec a) {
  return {_mm256_round_ps(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)};
}
/// a * 2^n for whole n in [-252, 254], in two steps so that neither power overflows.
inline Vec scale_by_power(Vec a, Vec n) {
  const __m256i whole = _mm256_cvtps_epi32(n.v);
  const __m256i first = _mm256_srai_epi32(whole, 1);
  const auto power = [](__m256i e) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(e, _mm256_set1_epi32(127)), 23));
  };
  return {_mm256_mul_ps(_mm256_mul_ps(a.v, power(first)), power(_mm256_sub_epi32(whole, first)))};
}

inline Vec first_lanes(Vec a, std::int64_t n, Vec b) {
  const std::int64_t count = n < 0 ? 0 : (n > 8 ? 8 : n);
  return {_mm256_blendv_ps(b.v, a.v, _mm256_castsi256_ps(mask_of(Part{count})))};
}

inline __m128 reduce_add4(Vec a, Vec b, Vec c, Vec d) {
  const __m256 ab = _mm256_add_ps(_mm256_unpacklo_ps(a.v, b.v), _mm256_unpackhi_ps(a.v, b.v));
  const __m256 cd = _mm256_add_ps(_mm256_unpacklo_ps(c.v, d.v), _mm256_unpackhi_ps(c.v, d.v));
  const __m256 abcd = _mm256_add_ps(
      _mm256_castpd_ps(_mm256_unpacklo_pd(_mm256_castps_pd(ab), _mm256_castps_pd(cd))),
      _mm256_castpd_ps(_mm256_unpackhi_pd(_mm256_castps_pd(ab), _mm256_castps_pd(cd))));
  return _mm_add_ps(_mm256_castps256_ps128(abcd), _mm256_extractf128_ps(abcd, 1));
}
inline float reduce_add(Vec a) {
  return _mm_cvtss_f32(reduce_add4(a, a, a, a));
}
inline float reduce_max(Vec a) {
  const __m128 half = _mm_max_ps(_mm256_castps256_ps128(a.v), _mm256_extractf128_ps(a.v, 1));
  const __m128 pair = _mm_max_ps(half, _mm_movehl_ps(half, half));
  return _mm_cvtss_f32(_mm_max_ss(pair, _mm_shuffle_ps(pair, pair, 1)));
}

}  // namespace
}  // namespace gem8
