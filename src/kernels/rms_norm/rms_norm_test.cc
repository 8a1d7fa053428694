#include "kernels/rms_norm/rms_norm.h"

#include <gtest/gtest.h>

#include "kernels/rms_norm/rope_cache.h"
#include "kernels/test_matrix.h"

namespace gem8 {
namespace {

using testing::TestMatrix;

constexpr float kEps = 1e-6f;

double inverse_rms(const TestMatrix& x, std::int64_t t, std::int64_t first, std::int64_t n) {
  double sum = 0.0;
  for (std::int64_t i = first; i < first + n; ++i)
    sum += static_cast<double>(x.at(t, i)) * x.at(t, i);
  return 1.0 / std::sqrt(sum / static_cast<double>(n) + kEps);
}

/// Rows other than the reference are for BF16.
bool takes(const isa::Row<RmsNormKernel>& row, DType dtype) {
  return dtype == DType::kBF16 || row.needs == isa::kAny;
}

constexpr std::int64_t kSizes[] = {1, 7, 8, 9, 15, 16, 17, 31, 33, 64, 65, 130, 2816};

TEST(RmsNorm, MatchesItsFormula) {
  for (const auto& row : testing::runnable(rms_norm_rows())) {
    for (const DType dtype : {DType::kBF16, DType::kF32}) {
      if (!takes(row, dtype)) continue;
      std::mt19937 random(1);
      for (const std::int64_t n : kSizes) {
        for (const DType w_dtype : {DType::kBF16, DType::kF32, DType::kBool}) {  // kBool: no weight
          TestMatrix x(dtype, 3, n, 5), y(dtype, 3, n, 2),
              w(w_dtype == DType::kBool ? DType::kF32 : w_dtype, 1, n);
          x.fill_normal(random, 3.0f);
          w.fill_normal(random);
          const ParamVec weight = w_dtype == DType::kBool ? ParamVec{} : w.param();
          row.kernel.norm({x.view(), weight, kEps, y.mat()}, 0, 3);
          EXPECT_TRUE(y.guards_intact()) << row.name;
          for (std::int64_t t = 0; t < 3; ++t) {
            for (std::int64_t i = 0; i < n; ++i) {
              const double want = x.at(t, i) * inverse_rms(x, t, 0, n) *
                                  (weight.data == nullptr ? 1.0 : w.at(0, i));
              // n squares summed (halved by the root), root, quotient and two products in float32;
              // then the output's rounding.
              const double bound = testing::rounding_bound(dtype, std::abs(want)) +
                                   (static_cast<double>(n) / 2 + 6) * 0x1p-24 * std::abs(want);
              ASSERT_NEAR(y.at(t, i), want, bound) << row.name << " n " << n;
            }
          }
        }
      }
    }
  }
}

/// Differences to the reference row, in units of the last place of BF16. Inner roundings may fall
/// to either side: each moves the result by an ulp of the larger operand.
void expect_close(const TestMatrix& got, const TestMatrix& want, double magnitude,
                  const char* name) {
  ASSERT_TRUE(got.guards_intact()) << name;
  for (std::int64_t t = 0; t < got.rows(); ++t) {
    for (std::int64_t i = 0; i < got.cols(); ++i) {
      ASSERT_NEAR(got.at(t, i), want.at(t, i),
                  2.0 * testing::rounding_bound(DType::kBF16, std::abs(want.at(t, i)) + magnitude))
          << name;
    }
  }
}

TEST(RmsNorm, AddAndRopeMatchTheReferenceRow) {
  const RmsNormKernel reference = rms_norm_rows().back().kernel;
  ThreadPool pool(1);
  for (const auto& row : testing::runnable(rms_norm_rows())) {
    std::mt19937 random(2);
    for (const std::int64_t n : {2, 14, 16, 18, 32, 62, 66, 128, 256, 512}) {
      TestMatrix a(DType::kBF16, 4, n, 3), r(DType::kBF16, 4, n, 1), w(DType::kBF16, 1, n);
      a.fill_normal(random);
      r.fill_normal(random);
      w.fill_normal(random);
      TestMatrix want(DType::kBF16, 4, n), got(DType::kBF16, 4, n);
      reference.norm_add({a.view(), w.param(), kEps, r.view(), 0.7f, want.mat()}, 0, 4);
      row.kernel.norm_add({a.view(), w.param(), kEps, r.view(), 0.7f, got.mat()}, 0, 4);
      expect_close(got, want, 3.0, row.name);

      // Three heads of n lanes; also in place.
      TestMatrix x(DType::kBF16, 4, 3 * n, 4), turned(DType::kBF16, 4, 3 * n),
          expected(DType::kBF16, 4, 3 * n);
      x.fill_normal(random);
      std::vector<float> inv_freq(static_cast<std::size_t>(n / 2));
      for (std::size_t j = 0; j < inv_freq.size(); ++j)
        inv_freq[j] = std::pow(100.0f, -static_cast<float>(j) / static_cast<float>(n));
      const std::int32_t positions[] = {0, 1, 77, 100000};
      RopeCache cache;
      const auto angles = cache.angles(pool, positions, {inv_freq.data(), n}, DType::kBF16);
      for (const bool rotates : {true, false}) {
        NormRopeCall call{x.view(),
                          3,
                          n,
                          w.param(),
                          kEps,
                          rotates ? angles.cos : nullptr,
                          rotates ? angles.sin : nullptr,
                          expected.mat()};
        reference.norm_rope(call, 0, 4);
        call.y = turned.mat();
        row.kernel.norm_rope(call, 0, 4);
        expect_close(turned, expected, 3.0, row.name);
      }
      NormRopeCall in_place{x.view(), 3, n, w.param(), kEps, nullptr, nullptr, x.mat()};
      row.kernel.norm_rope(in_place, 0, 4);
      EXPECT_EQ(x.row_bytes(), turned.row_bytes()) << row.name;
    }
  }
}

TEST(Rope, RotatesPairsByTheirAngle) {
  const RmsNormKernel reference = rms_norm_rows().back().kernel;
  ThreadPool pool(2);
  RopeCache cache;
  const float inv_freq[] = {1.0f, 0.25f, 0.0f};
  const std::int32_t positions[] = {3, 9};
  const auto angles = cache.angles(pool, positions, {inv_freq, 6}, DType::kF32);
  TestMatrix x(DType::kF32, 2, 6), y(DType::kF32, 2, 6), n(DType::kF32, 2, 6);
  std::mt19937 random(3);
  x.fill_normal(random);
  reference.norm({x.view(), {}, kEps, n.mat()}, 0, 2);
  reference.norm_rope({x.view(), 1, 6, {}, kEps, angles.cos, angles.sin, y.mat()}, 0, 2);
  for (std::int64_t t = 0; t < 2; ++t) {
    for (std::int64_t j = 0; j < 3; ++j) {
      const double angle = positions[t] * static_cast<double>(inv_freq[j]);
      EXPECT_NEAR(y.at(t, j), n.at(t, j) * std::cos(angle) - n.at(t, j + 3) * std::sin(angle),
                  1e-6);
      EXPECT_NEAR(y.at(t, j + 3), n.at(t, j + 3) * std::cos(angle) + n.at(t, j) * std::sin(angle),
                  1e-6);
    }
  }
  // The same list again is the same memory; another table in between does not displace it.
  const float other[] = {1.0f};
  cache.angles(pool, positions, {other, 2}, DType::kF32);
  EXPECT_EQ(cache.angles(pool, positions, {inv_freq, 6}, DType::kF32).cos, angles.cos);
  const std::int32_t moved[] = {4, 9};
  EXPECT_NEAR(cache.angles(pool, moved, {inv_freq, 6}, DType::kF32).cos[0], std::cos(4.0), 1e-7);
}

}  // namespace
}  // namespace gem8
