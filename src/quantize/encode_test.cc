#include "quantize/encode.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "formats/safetensors.h"

namespace gem8 {
namespace {

template <class T>
std::span<const std::byte> bytes_of(const std::vector<T>& values) {
  return std::as_bytes(std::span(values));
}

TEST(Encode, GoldenTableFromFloat32) {
  const auto file = SafetensorsFile::open(GEM8_TEST_DATA "/golden/quant/e4m3.safetensors");
  ASSERT_TRUE(file) << file.error().text();
  const TensorInfo* const input = file->find("encode.input");
  const TensorInfo* const wanted = file->find("encode.saturating");
  ASSERT_NE(input, nullptr);
  ASSERT_NE(wanted, nullptr);
  ASSERT_EQ(input->dtype, DType::kF32);
  ASSERT_EQ(input->n_elements(), 108112u);
  std::vector<std::uint8_t> codes(input->n_elements());
  encode_weights(DType::kF32, input->bytes, 1.0f, codes);
  std::size_t wrong = 0;
  for (std::size_t i = 0; i < codes.size(); ++i) {
    const auto want = static_cast<std::uint8_t>(wanted->bytes[i]);
    float x = 0.0f;
    std::memcpy(&x, input->bytes.data() + 4 * i, 4);
    wrong += codes[i] != want || e4m3_encode(x) != want;
  }
  EXPECT_EQ(wrong, 0u);
}

TEST(Encode, GoldenDecodeTable) {
  const auto file = SafetensorsFile::open(GEM8_TEST_DATA "/golden/quant/e4m3.safetensors");
  ASSERT_TRUE(file) << file.error().text();
  const TensorInfo* const decode = file->find("decode");
  ASSERT_NE(decode, nullptr);
  ASSERT_EQ(decode->n_elements(), 256u);
  for (std::size_t code = 0; code < 256; ++code) {
    float want = 0.0f;
    std::memcpy(&want, decode->bytes.data() + 4 * code, 4);
    const float got = kE4M3Values[code];
    if (std::isnan(want)) {
      EXPECT_TRUE(std::isnan(got)) << code;
    } else {
      EXPECT_EQ(std::bit_cast<std::uint32_t>(got), std::bit_cast<std::uint32_t>(want)) << code;
    }
  }
}

// Every bfloat16 and several scales: the vector loop and the plain encoder must agree, at every
// alignment.
TEST(Encode, EveryBF16MatchesThePlainEncoder) {
  std::vector<std::uint16_t> values(65536 + 1);
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<std::uint16_t>(i);
  std::vector<std::uint8_t> codes(65536);
  for (const float scale : {1.0f, 1.0f / 448.0f, 0.00067138672f, 3.1e-5f, 7.7f}) {
    encode_weights(DType::kBF16, bytes_of(values).subspan(0, 131072), scale, codes);
    for (std::size_t i = 0; i < codes.size(); ++i) {
      const float x = static_cast<float>(BF16::from_bits(values[i])) / scale;
      ASSERT_EQ(codes[i], e4m3_encode(x)) << "bf16 " << i << " scale " << scale;
    }
    encode_weights(DType::kBF16, bytes_of(values).subspan(2, 2 * 37), scale,
                   std::span(codes).first(37));
    for (std::size_t i = 0; i < 37; ++i) {
      ASSERT_EQ(codes[i], e4m3_encode(static_cast<float>(BF16::from_bits(values[i + 1])) / scale));
    }
  }
}

TEST(Encode, F16Weights) {
  const std::vector<std::uint16_t> values = {0x3c00, 0xbc00, 0x0001, 0x7bff};
  std::vector<std::uint8_t> codes(values.size());
  encode_weights(DType::kF16, bytes_of(values), 1.0f, codes);
  EXPECT_EQ(codes, (std::vector<std::uint8_t>{0x38, 0xb8, 0x00, 0x7e}));
  EXPECT_EQ(weights_amax(DType::kF16, bytes_of(values)), 65504.0f);
}

TEST(Scale, IsAmaxOver448AndOrdinaryForZero) {
  EXPECT_EQ(scale_of(448.0f), 1.0f);
  EXPECT_EQ(scale_of(0.30078125f), 0.30078125f / 448.0f);
  EXPECT_EQ(scale_of(0.0f), 1.0f / 448.0f);
}

TEST(Amax, SeesSignsAndRefusesNothingSilently) {
  EXPECT_EQ(weights_amax(DType::kF32, bytes_of(std::vector<float>{1.0f, -3.0f, 2.0f})), 3.0f);
  EXPECT_EQ(weights_amax(DType::kF32, {}), 0.0f);
  const float infinity = std::numeric_limits<float>::infinity();
  const float nan = std::numeric_limits<float>::quiet_NaN();
  EXPECT_EQ(weights_amax(DType::kF32, bytes_of(std::vector<float>{1.0f, -infinity})), infinity);
  EXPECT_EQ(weights_amax(DType::kF32, bytes_of(std::vector<float>{1.0f, nan})), infinity);
  EXPECT_EQ(weights_amax(DType::kBF16, bytes_of(std::vector<std::uint16_t>{0x3f80, 0xffc0})),
            infinity);
}

TEST(LargestCode, IgnoresTheSign) {
  std::vector<std::uint8_t> codes(100, 0x80);
  EXPECT_EQ(largest_code(bytes_of(codes)), 0);
  codes[99] = 0xfe;
  EXPECT_EQ(largest_code(bytes_of(codes)), 0x7e);
  codes[3] = 0x7f;
  EXPECT_EQ(largest_code(bytes_of(codes)), 0x7f);
}

// 1.7 is not a code; its neighbours are 1.625 and 1.75.
TEST(WeightError, SumsAreThoseOfTheDefinition) {
  const std::vector<float> originals(70000, 1.7f);
  std::vector<std::uint8_t> codes(originals.size());
  encode_weights(DType::kF32, bytes_of(originals), 1.0f, codes);
  const WeightError error = weight_error(bytes_of(codes), 1.0f, DType::kF32, bytes_of(originals));
  const double n = 70000.0;
  EXPECT_NEAR(error.original_square, n * 1.7 * 1.7, 1e-4 * n);
  EXPECT_NEAR(error.error_square, n * 0.05 * 0.05, 1e-5 * n);
  EXPECT_NEAR(error.product, n * 1.7 * 1.75, 1e-4 * n);
  EXPECT_NEAR(error.stored_square, n * 1.75 * 1.75, 1e-4 * n);
}

TEST(WeightError, DecodesEveryFiniteCode) {
  std::vector<std::uint8_t> codes;
  std::vector<float> values;
  for (int code = 0; code < 256; ++code) {
    if ((code & 0x7f) == 0x7f) continue;
    codes.push_back(static_cast<std::uint8_t>(code));
    values.push_back(kE4M3Values[static_cast<std::size_t>(code)]);
  }
  EXPECT_EQ(weight_error(bytes_of(codes), 1.0f, DType::kF32, bytes_of(values)).error_square, 0.0);
}

}  // namespace
}  // namespace gem8
