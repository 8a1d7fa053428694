#include "kernels/elementwise/elementwise.h"

#include <gtest/gtest.h>

#include <limits>

#include "kernels/test_matrix.h"

namespace gem8 {
namespace {

using testing::TestMatrix;

TEST(Elementwise, MatchesTheReferenceRow) {
  const ElementwiseKernel reference = elementwise_rows().back().kernel;
  for (const auto& row : testing::runnable(elementwise_rows())) {
    for (const DType dtype : {DType::kBF16, DType::kF32}) {
      std::mt19937 random(1);
      for (const std::int64_t n : {1, 7, 8, 9, 15, 16, 17, 49, 200}) {
        TestMatrix a(dtype, 3, n, 1), b(dtype, 3, n, 4), want(dtype, 3, n), got(dtype, 3, n, 6);
        a.fill_normal(random, 4.0f);
        b.fill_normal(random);
        const auto compare = [&](const char* what, ElementwiseKernel::Function expected,
                                 ElementwiseKernel::Function actual, float factor, auto slack) {
          expected({a.view(), b.view(), factor, want.mat()}, 0, 3);
          actual({a.view(), b.view(), factor, got.mat()}, 0, 3);
          ASSERT_TRUE(got.guards_intact()) << row.name << " " << what;
          for (std::int64_t t = 0; t < 3; ++t) {
            for (std::int64_t i = 0; i < n; ++i) {
              ASSERT_NEAR(got.at(t, i), want.at(t, i),
                          slack(a.at(t, i)) * (std::abs(want.at(t, i)) + 0x1p-30))
                  << row.name << " " << what << " " << a.at(t, i);
            }
          }
        };
        const auto equal = [](float) { return 0.0; };
        compare("add", reference.add, row.kernel.add, 0.3f,
                equal);  // the same operations in the same order: equal
        compare("scale", reference.scale, row.kernel.scale, 1.7f, equal);
        // x / (1 + e^v): v carries three roundings, which e turns into a relative error of |v|
        // times them; exp adds 2 ulp, the rest four operations. In BF16 an inner rounding may fall
        // to the other side (an ulp), and the outer one after it.
        const auto gelu = [&](float x) {
          const double v = 1.6 * std::abs(x) * (1.0 + 0.0447 * x * x);
          return (3.0 * v + 8.0) * 0x1p-24 + (dtype == DType::kBF16 ? 2 * 0x1p-7 : 0.0);
        };
        compare("gelu_mul", reference.gelu_mul, row.kernel.gelu_mul, 1.0f, gelu);
      }
      TestMatrix x(DType::kF32, 2, 37), want(DType::kF32, 2, 37), got(DType::kF32, 2, 37);
      x.fill_normal(random, 40.0f);
      reference.soft_cap({x.view(), {}, 30.0f, want.mat()}, 0, 2);
      row.kernel.soft_cap({x.view(), {}, 30.0f, got.mat()}, 0, 2);
      // 1 - 2 / (e + 1): absolute errors of a few ulp of 1, times the cap.
      for (std::int64_t i = 0; i < 37; ++i)
        ASSERT_NEAR(got.at(1, i), want.at(1, i), 30.0f * 6 * 0x1p-24) << row.name;
    }
  }
}

TEST(Elementwise, GeluKeepsItsTailsAndNaN) {
  for (const auto& row : testing::runnable(elementwise_rows())) {
    TestMatrix a(DType::kF32, 1, 6), ones(DType::kF32, 1, 6), y(DType::kF32, 1, 6);
    const float inputs[] = {-100.0f, -9.0f, 0.0f,
                            9.0f,    1e4f,  std::numeric_limits<float>::quiet_NaN()};
    for (std::int64_t i = 0; i < 6; ++i) {
      a.set(0, i, inputs[i]);
      ones.set(0, i, 1.0f);
    }
    row.kernel.gelu_mul({a.view(), ones.view(), 1.0f, y.mat()}, 0, 1);
    EXPECT_NEAR(y.at(0, 0), 0.0, 1e-30) << row.name;
    EXPECT_LE(y.at(0, 1), 0.0f) << row.name;
    EXPECT_EQ(y.at(0, 2), 0.0f) << row.name;
    EXPECT_EQ(y.at(0, 3), 9.0f) << row.name;
    EXPECT_EQ(y.at(0, 4), 1e4f) << row.name;
    EXPECT_TRUE(std::isnan(y.at(0, 5))) << row.name;
  }
}

TEST(Absmax, CountsNaNAsInfinity) {
  ThreadPool pool(2);
  for (const DType dtype : {DType::kBF16, DType::kF32}) {
    TestMatrix x(dtype, 5, 9, 3);
    std::mt19937 random(1);
    x.fill_normal(random);
    x.set(3, 8, -7.5f);
    EXPECT_EQ(absmax(pool, x.view()), 7.5f);
    x.set(0, 0, std::numeric_limits<float>::quiet_NaN());
    EXPECT_EQ(absmax(pool, x.view()), std::numeric_limits<float>::infinity());
    EXPECT_EQ(absmax(pool, x.view_rows(1, 2)) < 7.5f, true);
    EXPECT_EQ(absmax(pool, x.view_rows(0, 0)), 0.0f);
  }
}

}  // namespace
}  // namespace gem8
