#include "quantize/encode.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>

#include "foundation/check.h"

namespace gem8 {

namespace {

// The loops below are plain integer and float code that compilers vectorise; GEM8_WIDE compiles one
// body three times and picks at the first call. Quantising 26B weights is a streaming job: with
// 512-bit registers one core keeps ahead of any disk.
#if defined(__x86_64__) && defined(__GNUC__)
#define GEM8_TARGET(x) [[gnu::target(x)]]
constexpr bool kHasTargets = true;
#ifdef __clang__  // which knows the width as an option of the command line alone
#define GEM8_AVX512 "avx512bw,avx512dq,avx512vl"
#else
#define GEM8_AVX512 "avx512bw,avx512dq,avx512vl,prefer-vector-width=512"
#endif
#else
#define GEM8_TARGET(x)
constexpr bool kHasTargets = false;
#endif

enum class Width { kPlain, k256, k512 };

Width cpu_width() noexcept {
#if defined(__x86_64__) && defined(__GNUC__)
  if (__builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl")) {
    return Width::k512;
  }
  if (__builtin_cpu_supports("avx2")) return Width::k256;
#endif
  return Width::kPlain;
}

template <class T>
[[gnu::always_inline]] inline T load(const std::byte* at) noexcept {
  T value;
  std::memcpy(&value, at, sizeof(T));
  return value;
}

struct FromBF16 {
  using Raw = std::uint16_t;
  static constexpr Raw kMagnitude = 0x7fff;
  [[gnu::always_inline]] static float value(Raw raw) noexcept {
    return std::bit_cast<float>(static_cast<std::uint32_t>(raw) << 16);
  }
};

struct FromF32 {
  using Raw = std::uint32_t;
  static constexpr Raw kMagnitude = 0x7fffffff;
  [[gnu::always_inline]] static float value(Raw raw) noexcept { return std::bit_cast<float>(raw); }
};

struct FromF16 {
  using Raw = std::uint16_t;
  static constexpr Raw kMagnitude = 0x7fff;
  static float value(Raw raw) noexcept { return f16_to_float(raw); }
};

/// e4m3_encode() without a branch: all three cases are computed and one is chosen.
[[gnu::always_inline]] inline std::uint8_t encode_one(float x) noexcept {
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(x);
  const std::uint32_t sign = (bits >> 24) & 0x80u;
  const std::uint32_t magnitude = bits & 0x7fffffffu;
  const std::uint32_t small =
      std::bit_cast<std::uint32_t>(std::bit_cast<float>(magnitude) + 0x1.8p14f) & 0xfu;
  const std::uint32_t normal =
      ((magnitude + 0x7ffffu + ((magnitude >> 20) & 1u)) >> 20) - (120u << 3);
  std::uint32_t code = magnitude < 0x3c800000u ? small : normal;
  code = magnitude >= 0x43e00000u ? 0x7eu : code;
  code |= sign;
  return static_cast<std::uint8_t>(magnitude > 0x7f800000u ? 0x7fu : code);
}

template <class From>
[[gnu::always_inline]] inline void encode_body(const std::byte* in, float scale, std::uint8_t* out,
                                               std::size_t n) noexcept {
  for (std::size_t i = 0; i < n; ++i) {
    out[i] = encode_one(From::value(load<typename From::Raw>(in + i * sizeof(typename From::Raw))) /
                        scale);
  }
}

template <class From>
[[gnu::always_inline]] inline typename From::Raw magnitude_body(const std::byte* in,
                                                                std::size_t n) noexcept {
  using Raw = typename From::Raw;
  Raw largest = 0;
  for (std::size_t i = 0; i < n; ++i) {
    largest = std::max<Raw>(largest, load<Raw>(in + i * sizeof(Raw)) & From::kMagnitude);
  }
  return largest;
}

[[gnu::always_inline]] inline std::uint8_t code_body(const std::byte* in, std::size_t n) noexcept {
  std::uint8_t largest = 0;
  for (std::size_t i = 0; i < n; ++i) {
    largest = std::max<std::uint8_t>(largest, static_cast<std::uint8_t>(in[i]) & 0x7fu);
  }
  return largest;
}

constexpr std::size_t kLanes = 16;

/// Sixteen partial sums per quantity: enough for one 512-bit register, and the same order whatever
/// the width.
template <class From>
[[gnu::always_inline]] inline void error_body(const std::byte* codes, float scale,
                                              const std::byte* originals, std::size_t n,
                                              float (&sums)[4][kLanes]) noexcept {
  using Raw = typename From::Raw;
  const std::size_t whole = n / kLanes * kLanes;
  const auto step = [&](std::size_t i, std::size_t lane) {
    const auto code = static_cast<std::uint32_t>(codes[i]);
    // The exponent fields differ by 120: one exact multiplication serves normal and subnormal codes
    // alike.
    const float magnitude = std::bit_cast<float>((code & 0x7fu) << 20) * 0x1p120f;
    const float stored =
        std::bit_cast<float>(std::bit_cast<std::uint32_t>(magnitude) | (code & 0x80u) << 24) *
        scale;
    const float original = From::value(load<Raw>(originals + i * sizeof(Raw)));
    const float error = stored - original;
    sums[0][lane] += original * original;
    sums[1][lane] += error * error;
    sums[2][lane] += stored * original;
    sums[3][lane] += stored * stored;
  };
  for (std::size_t i = 0; i < whole; i += kLanes) {
    for (std::size_t lane = 0; lane < kLanes; ++lane) step(i + lane, lane);
  }
  for (std::size_t i = whole; i < n; ++i) step(i, i - whole);
}

template <class From>
void encode_plain(const std::byte* in, float scale, std::uint8_t* out, std::size_t n) noexcept {
  encode_body<From>(in, scale, out, n);
}
template <class From>
GEM8_TARGET("avx2")
void encode_256(const std::byte* in, float scale, std::uint8_t* out, std::size_t n) noexcept {
  encode_body<From>(in, scale, out, n);
}
template <class From>
GEM8_TARGET(GEM8_AVX512)
void encode_512(const std::byte* in, float scale, std::uint8_t* out, std::size_t n) noexcept {
  encode_body<From>(in, scale, out, n);
}

template <class From>
auto magnitude_plain(const std::byte* in, std::size_t n) noexcept {
  return magnitude_body<From>(in, n);
}
template <class From>
GEM8_TARGET("avx2")
auto magnitude_256(const std::byte* in, std::size_t n) noexcept {
  return magnitude_body<From>(in, n);
}
template <class From>
GEM8_TARGET(GEM8_AVX512)
auto magnitude_512(const std::byte* in, std::size_t n) noexcept {
  return magnitude_body<From>(in, n);
}

GEM8_TARGET("avx2") std::uint8_t code_256(const std::byte* in, std::size_t n) noexcept {
  return code_body(in, n);
}
GEM8_TARGET(GEM8_AVX512)
std::uint8_t code_512(const std::byte* in, std::size_t n) noexcept {
  return code_body(in, n);
}

using Sums = float[4][kLanes];
template <class From>
void error_plain(const std::byte* codes, float scale, const std::byte* originals, std::size_t n,
                 Sums& sums) noexcept {
  error_body<From>(codes, scale, originals, n, sums);
}
template <class From>
GEM8_TARGET("avx2")
void error_256(const std::byte* codes, float scale, const std::byte* originals, std::size_t n,
               Sums& sums) noexcept {
  error_body<From>(codes, scale, originals, n, sums);
}
template <class From>
GEM8_TARGET(GEM8_AVX512)
void error_512(const std::byte* codes, float scale, const std::byte* originals, std::size_t n,
               Sums& sums) noexcept {
  error_body<From>(codes, scale, originals, n, sums);
}

template <class From>
void encode(const std::byte* in, float scale, std::uint8_t* out, std::size_t n) noexcept {
  static const Width width = cpu_width();
  if (kHasTargets && width == Width::k512) return encode_512<From>(in, scale, out, n);
  if (kHasTargets && width == Width::k256) return encode_256<From>(in, scale, out, n);
  encode_plain<From>(in, scale, out, n);
}

template <class From>
float amax(const std::byte* in, std::size_t n) noexcept {
  static const Width width = cpu_width();
  const auto raw = kHasTargets && width == Width::k512   ? magnitude_512<From>(in, n)
                   : kHasTargets && width == Width::k256 ? magnitude_256<From>(in, n)
                                                         : magnitude_plain<From>(in, n);
  const float value = From::value(raw);
  return value <= std::numeric_limits<float>::max() ? value
                                                    : std::numeric_limits<float>::infinity();
}

template <class From>
WeightError error(const std::byte* codes, float scale, const std::byte* originals,
                  std::size_t n) noexcept {
  static const Width width = cpu_width();
  WeightError total;
  // Float sums of 4096 terms each, then double: rounding stays below 1e-4 of what is reported.
  constexpr std::size_t kBlock = 4096 * kLanes;
  for (std::size_t begin = 0; begin < n; begin += kBlock) {
    const std::size_t count = std::min(kBlock, n - begin);
    Sums sums = {};
    const std::byte* const from = originals + begin * sizeof(typename From::Raw);
    if (kHasTargets && width == Width::k512) {
      error_512<From>(codes + begin, scale, from, count, sums);
    } else if (kHasTargets && width == Width::k256) {
      error_256<From>(codes + begin, scale, from, count, sums);
    } else {
      error_plain<From>(codes + begin, scale, from, count, sums);
    }
    for (std::size_t lane = 0; lane < kLanes; ++lane) {
      total.original_square += static_cast<double>(sums[0][lane]);
      total.error_square += static_cast<double>(sums[1][lane]);
      total.product += static_cast<double>(sums[2][lane]);
      total.stored_square += static_cast<double>(sums[3][lane]);
    }
  }
  return total;
}

}  // namespace

void WeightError::add(const WeightError& other) {
  original_square += other.original_square;
  error_square += other.error_square;
  product += other.product;
  stored_square += other.stored_square;
}

float scale_of(float amax_value) {
  return (amax_value > 0.0f ? amax_value : 1.0f) / kE4M3Max;
}

bool is_weight_dtype(DType dtype) {
  return dtype == DType::kBF16 || dtype == DType::kF16 || dtype == DType::kF32;
}

float weights_amax(DType dtype, std::span<const std::byte> values) noexcept {
  const std::size_t n = values.size() / dtype_bytes(dtype);
  switch (dtype) {
    case DType::kBF16:
      return amax<FromBF16>(values.data(), n);
    case DType::kF16:
      return amax<FromF16>(values.data(), n);
    default:
      GEM8_CHECK(dtype == DType::kF32);
      return amax<FromF32>(values.data(), n);
  }
}

void encode_weights(DType dtype, std::span<const std::byte> values, float scale,
                    std::span<std::uint8_t> codes) noexcept {
  GEM8_CHECK(values.size() == codes.size() * dtype_bytes(dtype));
  switch (dtype) {
    case DType::kBF16:
      return encode<FromBF16>(values.data(), scale, codes.data(), codes.size());
    case DType::kF16:
      return encode<FromF16>(values.data(), scale, codes.data(), codes.size());
    default:
      GEM8_CHECK(dtype == DType::kF32);
      return encode<FromF32>(values.data(), scale, codes.data(), codes.size());
  }
}

std::uint8_t largest_code(std::span<const std::byte> codes) noexcept {
  static const Width width = cpu_width();
  if (kHasTargets && width == Width::k512) return code_512(codes.data(), codes.size());
  if (kHasTargets && width == Width::k256) return code_256(codes.data(), codes.size());
  return code_body(codes.data(), codes.size());
}

WeightError weight_error(std::span<const std::byte> codes, float scale, DType dtype,
                         std::span<const std::byte> originals) noexcept {
  GEM8_CHECK(originals.size() == codes.size() * dtype_bytes(dtype));
  switch (dtype) {
    case DType::kBF16:
      return error<FromBF16>(codes.data(), scale, originals.data(), codes.size());
    case DType::kF16:
      return error<FromF16>(codes.data(), scale, originals.data(), codes.size());
    default:
      GEM8_CHECK(dtype == DType::kF32);
      return error<FromF32>(codes.data(), scale, originals.data(), codes.size());
  }
}

}  // namespace gem8
