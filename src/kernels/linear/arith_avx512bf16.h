#pragma once

#include "kernels/linear/tile_body.h"

// Arithmetics of the AVX-512 BF16 tiles; include simd/vec_avx512.h first. For ISA files only.
namespace gem8 {
namespace {

/// The spacing of E4M3 values around v: 2^(exponent - 3), at least 2^-9.
inline Vec e4m3_step(Vec v) {
  const Vec exponent = {_mm512_getexp_ps(v.v)};
  return scale_by_power(splat(1.0f), max(exponent, splat(-6.0f)) - splat(3.0f));
}

/// 64 elements of BF16.
struct Pair {
  __m512bh lower;
  __m512bh upper;
};

inline __m512bh as_bf16(__m512i bits) {
  return (__m512bh)bits;
}
inline __mmask32 mask32(std::int64_t n) {
  return n >= 32 ? 0xffffffffu : (n <= 0 ? 0u : (1u << n) - 1u);
}
inline __mmask64 mask64(std::int64_t n) {
  return n >= 64 ? ~0ull : (1ull << n) - 1ull;
}

inline Pair load_pair(const std::uint16_t* p) {
  return {as_bf16(_mm512_loadu_si512(p)), as_bf16(_mm512_loadu_si512(p + 32))};
}
inline Pair load_pair_part(const std::uint16_t* p, std::int64_t n) {
  return {as_bf16(_mm512_maskz_loadu_epi16(mask32(n), p)),
          as_bf16(_mm512_maskz_loadu_epi16(mask32(n - 32), p + 32))};
}

/// E4M3 to BF16 by table: the lower 7 bits of a code select the two bytes of the magnitude, the
/// eighth is the sign.
struct E4M3Tables {
  __m512i low[2];
  __m512i high[2];
};

/// bytes[which][code]: the lower and the upper byte of the BF16 for codes 0..127, NaN included.
struct E4M3Bytes {
  alignas(64) std::uint8_t low[128];
  alignas(64) std::uint8_t high[128];
};

constexpr E4M3Bytes kE4M3Bytes = [] {
  E4M3Bytes bytes{};
  for (unsigned code = 0; code < 128; ++code) {
    const unsigned exponent = code >> 3;
    const unsigned mantissa = code & 7;
    unsigned bits = 0;
    if (code == 127) {
      bits = 0x7fc0;
    } else if (exponent != 0) {
      bits = (exponent + 120) << 7 | mantissa << 4;
    } else if (mantissa != 0) {  // mantissa * 2^-9 = 1.f * 2^(top - 9)
      const unsigned top = mantissa >= 4 ? 2 : (mantissa >= 2 ? 1 : 0);
      bits = (127 + top - 9) << 7 | ((mantissa << (7 - top)) & 0x7f);
    }
    bytes.low[code] = static_cast<std::uint8_t>(bits);
    bytes.high[code] = static_cast<std::uint8_t>(bits >> 8);
  }
  return bytes;
}();

inline E4M3Tables e4m3_tables() {
  return {{_mm512_load_si512(kE4M3Bytes.low), _mm512_load_si512(kE4M3Bytes.low + 64)},
          {_mm512_load_si512(kE4M3Bytes.high), _mm512_load_si512(kE4M3Bytes.high + 64)}};
}

inline Pair decode(const E4M3Tables& tables, __m512i codes) {
  // unpack interleaves within 128-bit lanes: put quarter-lanes where it makes the elements come out
  // in order.
  const __m512i ordered =
      _mm512_permutexvar_epi64(_mm512_setr_epi64(0, 4, 1, 5, 2, 6, 3, 7), codes);
  const __m512i low = _mm512_permutex2var_epi8(tables.low[0], ordered, tables.low[1]);
  const __m512i magnitude = _mm512_permutex2var_epi8(tables.high[0], ordered, tables.high[1]);
  const __m512i high = _mm512_ternarylogic_epi32(
      magnitude, ordered, _mm512_set1_epi8(static_cast<char>(0x80)), 0xf8);  // a | (b & c)
  return {as_bf16(_mm512_unpacklo_epi8(low, high)), as_bf16(_mm512_unpackhi_epi8(low, high))};
}

struct NoConstants {};

struct Bf16ByBf16 {
  using X = std::uint16_t;
  using W = std::uint16_t;
  using WVec = __m512bh;
  using Constants = NoConstants;
  static constexpr bool kWeightsFirst = true;
  static constexpr std::int64_t kStep = 32;
  static constexpr std::int64_t max_tokens(bool from_memory) { return from_memory ? 8 : 6; }
  static constexpr int tile_rows(int tokens, bool from_memory) {
    return tokens > 6 ? 3 : (tokens > 3 || from_memory ? 4 : 8);
  }

  static Constants constants() { return {}; }
  static __m512bh load_x(const X* p) { return as_bf16(_mm512_loadu_si512(p)); }
  static __m512bh load_x_part(const X* p, std::int64_t n) {
    return as_bf16(_mm512_maskz_loadu_epi16(mask32(n), p));
  }
  static __m512bh load_w(Constants, const W* p) { return load_x(p); }
  static __m512bh load_w_part(Constants, const W* p, std::int64_t n) { return load_x_part(p, n); }
  static Vec dot(Vec acc, __m512bh x, __m512bh w) { return {_mm512_dpbf16_ps(acc.v, x, w)}; }
  static Vec dot_part(Vec acc, __m512bh x, __m512bh w, std::int64_t) { return dot(acc, x, w); }
};

/// The same sums as Bf16ByBf16 over decoded weights, two of its steps at a time.
struct Bf16ByE4M3 {
  using X = std::uint16_t;
  using W = std::uint8_t;
  using WVec = Pair;
  using Constants = E4M3Tables;
  static constexpr bool kWeightsFirst = true;
  static constexpr std::int64_t kStep = 64;
  static constexpr std::int64_t max_tokens(bool) { return 8; }
  static constexpr int tile_rows(int tokens, bool) { return tokens > 6 ? 2 : (tokens > 4 ? 3 : 4); }

  static Constants constants() { return e4m3_tables(); }
  static Pair load_x(const X* p) { return load_pair(p); }
  static Pair load_x_part(const X* p, std::int64_t n) { return load_pair_part(p, n); }
  static Pair load_w(const Constants& tables, const W* p) {
    return decode(tables, _mm512_loadu_si512(p));
  }
  static Pair load_w_part(const Constants& tables, const W* p, std::int64_t n) {
    return decode(tables, _mm512_maskz_loadu_epi8(mask64(n), p));
  }
  static Vec dot(Vec acc, Pair x, Pair w) {
    return {_mm512_dpbf16_ps(_mm512_dpbf16_ps(acc.v, x.lower, w.lower), x.upper, w.upper)};
  }
  static Vec dot_part(Vec acc, Pair x, Pair w, std::int64_t n) {
    return n > 32 ? dot(acc, x, w) : Vec{_mm512_dpbf16_ps(acc.v, x.lower, w.lower)};
  }
};

template <class XType, class WType>
struct F32Arith {
  using X = XType;
  using W = WType;
  using Constants = NoConstants;
  using WVec = Vec;
  static constexpr bool kWeightsFirst = true;
  static constexpr std::int64_t kStep = 16;
  static constexpr std::int64_t max_tokens(bool) { return 4; }
  static constexpr int tile_rows(int tokens, bool) { return tokens > 2 ? 4 : 8; }

  static Constants constants() { return {}; }
  static Vec load_x(const X* p) { return load(p, Full{}); }
  static Vec load_x_part(const X* p, std::int64_t n) { return load(p, Part{n}); }
  static Vec load_w(Constants, const W* p) { return load(p, Full{}); }
  static Vec load_w_part(Constants, const W* p, std::int64_t n) { return load(p, Part{n}); }
  static Vec dot(Vec acc, Vec x, Vec w) { return fma(x, w, acc); }
  static Vec dot_part(Vec acc, Vec x, Vec w, std::int64_t) { return dot(acc, x, w); }
};

}  // namespace
}  // namespace gem8
