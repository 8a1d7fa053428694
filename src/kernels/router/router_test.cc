#include <gtest/gtest.h>

#include <algorithm>

#include "kernels/test_matrix.h"

namespace gem8 {
namespace {

using testing::TestMatrix;

struct Routed {
  std::vector<std::int32_t> experts;
  std::vector<float> weights;
  std::vector<float> logits;
};

Routed route(const TestMatrix& x, const RouterWeights& weights, std::int64_t top_k,
             std::size_t threads) {
  ThreadPool pool(threads);
  const auto device = make_cpu_device();
  const auto ops = make_cpu_ops(*device, pool, {x.view().dtype, Activations::kBF16}).value();
  Routed run;
  run.experts.resize(static_cast<std::size_t>(x.rows() * top_k));
  run.weights.resize(run.experts.size());
  run.logits.resize(static_cast<std::size_t>(x.rows() * weights.proj.out));
  ops->router(x.view(), weights, 1e-6f, {run.experts.data(), run.weights.data(), x.rows(), top_k},
              {run.logits.data(), DType::kF32, x.rows(), weights.proj.out, weights.proj.out});
  return run;
}

TEST(Router, ChoosesTheLargestAndRenormalises) {
  for (const DType dtype : {DType::kBF16, DType::kF32}) {
    std::mt19937 random(1);
    for (const std::int64_t tokens : {1, 5, 40}) {
      TestMatrix x(dtype, tokens, 90, 6), scale(DType::kBF16, 1, 90), proj(DType::kBF16, 37, 90),
          per_expert(DType::kBF16, 1, 37);
      x.fill_normal(random);
      scale.fill_normal(random);
      proj.fill_normal(random);
      per_expert.fill_normal(random);
      const RouterWeights weights{scale.param(), proj.weight(), per_expert.param()};
      const Routed run = route(x, weights, 4, 2);
      EXPECT_EQ(run.experts, route(x, weights, 4, 1).experts);
      for (std::int64_t t = 0; t < tokens; ++t) {
        double sum = 0.0;
        for (std::int64_t i = 0; i < 90; ++i) sum += static_cast<double>(x.at(t, i)) * x.at(t, i);
        const double factor = 1.0 / std::sqrt(sum / 90.0 + 1e-6) / std::sqrt(90.0);
        std::vector<std::pair<double, std::int32_t>> order;
        for (std::int32_t e = 0; e < 37; ++e) {
          double z = 0.0;
          double magnitude = 0.0;
          for (std::int64_t i = 0; i < 90; ++i) {
            const double product = x.at(t, i) * factor * scale.at(0, i) * proj.at(e, i);
            z += product;
            magnitude += std::abs(product);
          }
          ASSERT_NEAR(run.logits[static_cast<std::size_t>(t * 37 + e)], z,
                      testing::sum_bound(96, magnitude));
          order.emplace_back(-run.logits[static_cast<std::size_t>(t * 37 + e)],
                             e);  // the choice follows the logits as they are
        }
        std::sort(order.begin(), order.end());
        double total = 0.0;
        for (int i = 0; i < 4; ++i)
          total += std::exp(order[0].first - order[static_cast<std::size_t>(i)].first);
        for (int i = 0; i < 4; ++i) {
          const auto index = static_cast<std::size_t>(t * 4 + i);
          const auto& [minus_z, expert] = order[static_cast<std::size_t>(i)];
          ASSERT_EQ(run.experts[index], expert);
          const double want = std::exp(order[0].first - minus_z) / total * per_expert.at(0, expert);
          ASSERT_NEAR(run.weights[index], want, 4 * 0x1p-24 * std::abs(want));
        }
      }
    }
  }
}

TEST(Router, EqualLogitsGoToTheLowerIds) {
  TestMatrix x(DType::kF32, 1, 16), scale(DType::kF32, 1, 16), proj(DType::kF32, 8, 16),
      per_expert(DType::kF32, 1, 8);
  for (std::int64_t i = 0; i < 16; ++i) {
    x.set(0, i, 1.0f);
    scale.set(0, i, 1.0f);
    for (std::int64_t e = 0; e < 8; ++e) proj.set(e, i, e == 5 || e == 2 ? 1.0f : 0.5f);
  }
  for (std::int64_t e = 0; e < 8; ++e) per_expert.set(0, e, 1.0f);
  const Routed run = route(x, {scale.param(), proj.weight(), per_expert.param()}, 4, 1);
  EXPECT_EQ(run.experts, (std::vector<std::int32_t>{2, 5, 0, 1}));
}

TEST(Router, AlwaysChoosesDistinctExperts) {
  TestMatrix x(DType::kF32, 1, 16), scale(DType::kF32, 1, 16), proj(DType::kF32, 8, 16),
      per_expert(DType::kF32, 1, 8);
  std::mt19937 random(2);
  x.fill_normal(random);
  x.set(0, 3, std::nanf(""));
  scale.fill_normal(random);
  proj.fill_normal(random);
  per_expert.fill_normal(random);
  Routed run = route(x, {scale.param(), proj.weight(), per_expert.param()}, 8, 1);
  std::sort(run.experts.begin(), run.experts.end());
  EXPECT_EQ(run.experts, (std::vector<std::int32_t>{0, 1, 2, 3, 4, 5, 6, 7}));
}

}  // namespace
}  // namespace gem8
