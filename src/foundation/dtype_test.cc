#include "foundation/dtype.h"

#include <gtest/gtest.h>

#include <limits>

#include "foundation/fp8.h"

namespace gem8 {
namespace {

TEST(BF16, RoundsToNearestEvenAndKeepsNaN) {
  EXPECT_EQ(BF16(1.0f).bits, 0x3f80);
  EXPECT_EQ(BF16(std::bit_cast<float>(0x3f808000u)).bits, 0x3f80);  // tie, even below
  EXPECT_EQ(BF16(std::bit_cast<float>(0x3f818000u)).bits, 0x3f82);  // tie, even above
  EXPECT_EQ(BF16(std::bit_cast<float>(0x3f808001u)).bits, 0x3f81);
  EXPECT_EQ(BF16(std::numeric_limits<float>::infinity()).bits, 0x7f80);
  EXPECT_TRUE(std::isnan(static_cast<float>(BF16(std::bit_cast<float>(0x7f800001u)))));
}

TEST(E4M3, RoundTripsEveryFiniteCode) {
  for (int code = 0; code < 256; ++code) {
    const float value = e4m3_decode(static_cast<std::uint8_t>(code));
    if ((code & 0x7f) == 0x7f) {
      EXPECT_TRUE(std::isnan(value));
    } else {
      EXPECT_EQ(e4m3_encode(value), code) << code;
    }
  }
}

TEST(E4M3, EncodesTiesAndBordersAsTheFormatSays) {
  struct Case {
    float value;
    int code;
  };
  // The table of ties: half-way values go to the even mantissa, across the subnormal border too;
  // beyond 448 saturates.
  for (const auto& [value, code] : {Case{0.0f, 0x00},
                                    {-0.0f, 0x80},
                                    {0x1p-10f, 0x00},
                                    {0x1.001p-10f, 0x01},
                                    {1.5f * 0x1p-9f, 0x02},
                                    {2.5f * 0x1p-9f, 0x02},
                                    {7.5f * 0x1p-9f, 0x08},
                                    {0.1f, 0x1d},
                                    {1.0f / 3, 0x2b},
                                    {1.0625f, 0x38},
                                    {1.1875f, 0x3a},
                                    {17.0f, 0x58},
                                    {248.0f, 0x78},
                                    {432.0f, 0x7e},
                                    {464.01f, 0x7e},
                                    {1e9f, 0x7e},
                                    {-std::numeric_limits<float>::infinity(), 0xfe},
                                    {std::numeric_limits<float>::quiet_NaN(), 0x7f}}) {
    EXPECT_EQ(e4m3_encode(value), code) << value;
  }
}

TEST(F16, DecodesSubnormalsAndInfinity) {
  EXPECT_EQ(f16_to_float(0x0001), 0x1p-24f);
  EXPECT_EQ(f16_to_float(0x3c00), 1.0f);
  EXPECT_EQ(f16_to_float(0xfbff), -65504.0f);
  EXPECT_TRUE(std::isinf(f16_to_float(0x7c00)));
}

TEST(DTypeNames, AreInverse) {
  EXPECT_EQ(dtype_from_name("F8_E4M3"), DType::kF8E4M3);
  EXPECT_EQ(dtype_name(DType::kBF16), "BF16");
  EXPECT_EQ(dtype_bytes(DType::kF64), 8u);
  EXPECT_FALSE(dtype_from_name("F4").has_value());
}

}  // namespace
}  // namespace gem8
