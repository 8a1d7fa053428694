#include <gtest/gtest.h>

#include "kernels/linear/linear.h"
#include "kernels/test_matrix.h"
#include "kernels/workspace.h"

namespace gem8 {
namespace {

using testing::TestMatrix;

/// Runs a row's dot over all tokens of x and rows of w.
TestMatrix dot(const LinearKernel& kernel, const TestMatrix& x, const TestMatrix& w) {
  TestMatrix sums(DType::kF32, x.rows(), w.rows(), 3);
  std::vector<const void*> rows;
  for (std::int64_t t = 0; t < x.rows(); ++t) rows.push_back(x.view_rows(t, 1).data);
  Scratch unpack;
  kernel.dot({.x = rows.data(),
              .x_dtype = x.view().dtype,
              .n_tokens = x.rows(),
              .w = w.view().data,
              .w_dtype = w.view().dtype,
              .n_rows = w.rows(),
              .k = w.cols(),
              .sums = static_cast<float*>(sums.mat().data),
              .sums_stride = sums.mat().stride,
              .unpack = unpack.get<std::byte>(unpack_bytes(w.rows(), w.cols()))});
  return sums;
}

struct Types {
  DType x;
  DType w;
};
constexpr Types kTypes[] = {{DType::kBF16, DType::kF8E4M3}, {DType::kBF16, DType::kBF16},
                            {DType::kF32, DType::kBF16},    {DType::kF32, DType::kF32},
                            {DType::kBF16, DType::kF32},    {DType::kF32, DType::kF8E4M3}};

TEST(Dot, MatchesExactSumsAtEverySize) {
  for (const auto& row : testing::runnable(linear_rows())) {
    for (const Types& types : kTypes) {
      std::mt19937 random(1);
      for (const std::int64_t k : {1, 7, 8, 9, 15, 16, 17, 31, 33, 63, 64, 65, 97, 128, 200, 704}) {
        for (const std::int64_t n_rows : {1, 3, 4, 7, 8, 13, 48}) {
          for (const std::int64_t tokens : {1, 2, 3, 4, 5, 6, 7, 13}) {
            if (k > 65 && n_rows != 13 && n_rows != 8) continue;
            TestMatrix x(types.x, tokens, k, 5);
            TestMatrix w(types.w, n_rows, k);
            x.fill_normal(random);
            w.fill_normal(random);
            const TestMatrix sums = dot(row.kernel, x, w);
            ASSERT_TRUE(sums.guards_intact())
                << row.name << " k " << k << " rows " << n_rows << " tokens " << tokens;
            for (std::int64_t t = 0; t < tokens; ++t) {
              for (std::int64_t r = 0; r < n_rows; ++r) {
                double exact = 0.0;
                double magnitude = 0.0;
                for (std::int64_t i = 0; i < k; ++i) {
                  const double product = static_cast<double>(x.at(t, i)) * w.at(r, i);
                  exact += product;
                  magnitude += std::abs(product);
                }
                ASSERT_NEAR(sums.at(t, r), exact, testing::sum_bound(k, magnitude) + 1e-30)
                    << row.name << " k " << k << " rows " << n_rows << " tokens " << tokens;
              }
            }
          }
        }
      }
    }
  }
}

TEST(Dot, TokensDoNotDependOnTheirNeighbours) {
  for (const auto& row : testing::runnable(linear_rows())) {
    for (const Types& types : kTypes) {
      std::mt19937 random(2);
      for (const std::int64_t k : {40, 64, 353}) {
        TestMatrix x(types.x, 23, k);
        TestMatrix w(types.w, 29, k);
        x.fill_normal(random);
        w.fill_normal(random);
        const TestMatrix together = dot(row.kernel, x, w);
        for (std::int64_t t = 0; t < x.rows(); ++t) {
          TestMatrix alone_x(types.x, 1, k);
          for (std::int64_t i = 0; i < k; ++i) alone_x.set(0, i, x.at(t, i));
          const TestMatrix alone = dot(row.kernel, alone_x, w);
          for (std::int64_t r = 0; r < w.rows(); ++r) {
            ASSERT_EQ(std::bit_cast<std::uint32_t>(alone.at(0, r)),
                      std::bit_cast<std::uint32_t>(together.at(t, r)))
                << row.name << " k " << k << " token " << t << " row " << r;
          }
        }
      }
    }
  }
}

TEST(Dot, EveryE4M3CodeIsExact) {
  for (const auto& row : testing::runnable(linear_rows())) {
    for (const DType x_dtype : {DType::kBF16, DType::kF32}) {
      for (const std::int64_t tokens : {1, 9}) {     // decoded next to the load, and unpacked first
        for (const std::int64_t k : {1, 64, 100}) {  // the code at every place of a vector
          for (std::int64_t place = 0; place < k; place += 7) {
            TestMatrix x(x_dtype, tokens, k);
            TestMatrix w(DType::kF8E4M3, 256, k);
            for (std::int64_t t = 0; t < tokens; ++t) {
              for (std::int64_t i = 0; i < k; ++i) x.set(t, i, i == place ? 1.0f : 0.0f);
            }
            for (std::int64_t code = 0; code < 256; ++code) {
              for (std::int64_t i = 0; i < k; ++i)
                w.set_code(code, i, i == place ? static_cast<std::uint8_t>(code) : 0x7e);
            }
            const TestMatrix sums = dot(row.kernel, x, w);
            for (std::int64_t code = 0; code < 256; ++code) {
              const float want = kE4M3Values[static_cast<std::size_t>(code)];
              const float got = sums.at(tokens - 1, code);
              if (std::isnan(want)) {
                ASSERT_TRUE(std::isnan(got)) << row.name << " code " << code;
              } else {
                ASSERT_EQ(got, want)
                    << row.name << " code " << code << " place " << place << " k " << k;
              }
            }
          }
        }
      }
    }
  }
}

TEST(Quantize, MatchesTheReferenceRowExactly) {
  const LinearKernel reference = linear_rows().back().kernel;
  for (const auto& row : testing::runnable(linear_rows())) {
    for (const DType dtype : {DType::kBF16, DType::kF32}) {
      for (const float scale : {0.0f, 0.0137f, 1.0f}) {
        std::mt19937 random(3);
        TestMatrix x(dtype, 6, 333, 3);
        x.fill_normal(random, 2.0f);
        for (std::int64_t i = 0; i < 333; ++i) x.set(4, i, 0.0f);  // dynamic: the smallest scale
        for (std::int64_t i = 0; i < 333; ++i)
          x.set(5, i, std::ldexp(x.at(5, i), static_cast<int>(i % 40) - 30));  // subnormals
        x.set(0, 3, 1e30f);
        x.set(1, 3, -1e9f);
        if (scale > 0.0f) x.set(2, 9, std::nanf(""));
        TestMatrix want(dtype, 6, 333, 2);
        TestMatrix got(dtype, 6, 333, 2);
        float want_scales[6];
        float got_scales[6];
        reference.quantize(
            {.x = x.view(), .static_scale = scale, .y = want.mat(), .scales = want_scales}, 0, 6);
        row.kernel.quantize(
            {.x = x.view(), .static_scale = scale, .y = got.mat(), .scales = got_scales}, 0, 6);
        EXPECT_TRUE(got.guards_intact());
        for (std::int64_t t = 0; t < 6; ++t) {
          ASSERT_EQ(got_scales[t], want_scales[t]) << row.name;
          for (std::int64_t i = 0; i < 333; ++i)
            ASSERT_EQ(got.at(t, i), want.at(t, i)) << row.name << " row " << t << " lane " << i;
        }
      }
    }
  }
}

}  // namespace
}  // namespace gem8
