#include "kernels/image_attention/image_attention.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>

namespace gem8 {
namespace {

/// One head's inputs, and what a row makes of queries [begin, end).
struct Head {
  Head(std::int64_t n_in, std::int64_t head_dim_in)
      : n(n_in), head_dim(head_dim_in), stride((n + kImageKeys - 1) / kImageKeys * kImageKeys) {
    std::mt19937 random(static_cast<unsigned>(n * 1000 + head_dim));
    std::normal_distribution<float> normal(0.0f, 1.0f);
    for (auto* values : {&q, &v}) {
      values->resize(static_cast<std::size_t>(n * head_dim));
      for (float& value : *values) value = normal(random);
    }
    kt.assign(static_cast<std::size_t>(stride * head_dim), 0.0f);
    for (std::int64_t d = 0; d < head_dim; ++d) {
      for (std::int64_t i = 0; i < n; ++i)
        kt[static_cast<std::size_t>(d * stride + i)] = normal(random);
    }
  }

  std::vector<float> attend(const ImageAttentionKernel& kernel, std::int64_t begin,
                            std::int64_t end) const {
    constexpr float kPoison = -12345.0f;
    std::vector<float> y(q.size() + 16, kPoison);
    std::vector<float> scores(static_cast<std::size_t>(kImageQueries * stride),
                              std::numeric_limits<float>::quiet_NaN());
    kernel.attend({q.data(), kt.data(), v.data(), y.data(), scores.data(), n, stride, head_dim},
                  begin, end);
    for (std::size_t i = q.size(); i < y.size(); ++i) EXPECT_EQ(y[i], kPoison);
    y.resize(q.size());
    return y;
  }

  /// A score is head_dim products: off by head_dim * eps * their absolute sum, in the row and in
  /// the reference's rounding; the same enters every weight as a relative error. exp and the two
  /// sums over n add a few eps and n * eps.
  float bound() const {
    float largest_sum = 0.0f;
    float largest_value = 0.0f;
    for (std::int64_t i = 0; i < n; ++i) {
      for (std::int64_t j = 0; j < n; ++j) {
        float sum = 0.0f;
        for (std::int64_t d = 0; d < head_dim; ++d) {
          sum += std::abs(q[static_cast<std::size_t>(i * head_dim + d)] *
                          kt[static_cast<std::size_t>(d * stride + j)]);
        }
        largest_sum = std::max(largest_sum, sum);
      }
    }
    for (const float value : v) largest_value = std::max(largest_value, std::abs(value));
    constexpr float kEps = std::numeric_limits<float>::epsilon();
    return largest_value * kEps *
           (2.0f * static_cast<float>(head_dim) * largest_sum + 2.0f * static_cast<float>(n) +
            8.0f);
  }

  std::int64_t n, head_dim, stride;
  std::vector<float> q, kt, v;
};

TEST(ImageAttention, EveryRowAgreesWithTheReference) {
  const auto rows = image_attention_rows();
  const ImageAttentionKernel& reference = rows.back().kernel;
  for (const auto& row : rows) {
    if (row.needs > isa::detect()) {
      std::printf("skipped: %s, which this CPU cannot run\n", row.name);
      continue;
    }
    for (const std::int64_t n : {1, 9, 15, 16, 17, 31, 32, 33, 99}) {
      for (const std::int64_t head_dim : {4, 12, 16, 33, 64, 72}) {
        SCOPED_TRACE(fmt::format("{} n {} head_dim {}", row.name, n, head_dim));
        const Head head(n, head_dim);
        const std::vector<float> expected = head.attend(reference, 0, n);
        const std::vector<float> seen = head.attend(row.kernel, 0, n);
        const float bound = head.bound();
        for (std::size_t i = 0; i < seen.size(); ++i) ASSERT_NEAR(seen[i], expected[i], bound) << i;
      }
    }
  }
}

TEST(ImageAttention, AQueryDoesNotDependOnItsNeighbours) {
  for (const auto& row : image_attention_rows()) {
    if (row.needs > isa::detect()) continue;
    const Head head(37, 72);
    const std::vector<float> together = head.attend(row.kernel, 0, 37);
    for (std::int64_t i = 0; i < 37; ++i) {
      const std::vector<float> alone = head.attend(row.kernel, i, i + 1);
      for (std::int64_t d = 0; d < 72; ++d) {
        const auto at = static_cast<std::size_t>(i * 72 + d);
        ASSERT_EQ(alone[at], together[at]) << row.name << " query " << i;
      }
    }
  }
}

}  // namespace
}  // namespace gem8
