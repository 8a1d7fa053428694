#include "model/speed/speed.h"

#include <gtest/gtest.h>

#include <cmath>

#include "model/speed/synthetic.h"
#include "model/speed/tower_speed.h"

namespace gem8 {
namespace {

TEST(Speed, CountsWhatATinyModelReads) {
  ThreadPool pool(2);
  auto checkpoint = Checkpoint::open(std::string(GEM8_TEST_DATA) + "/golden/models/tiny-vision");
  ASSERT_TRUE(checkpoint) << checkpoint.error().text();
  const SpeedPlan plan{.batches = {1, 3}, .depths = {0, 40}, .prompts = {33}, .rounds = 1};
  const auto speed = measure_speed(std::make_shared<const Checkpoint>(std::move(*checkpoint)), pool,
                                   plan, [](const std::string&) {});
  ASSERT_TRUE(speed) << speed.error().text();
  ASSERT_EQ(speed->decode.size(), 4u);
  ASSERT_EQ(speed->prefill.size(), 1u);
  EXPECT_GT(speed->read_gbps, 0.0);
  EXPECT_GT(speed->bf16_gflops, 0.0);
  for (const DecodeSpeed& row : speed->decode) {
    EXPECT_GT(row.tok_s, 0.0);
    EXPECT_NEAR(row.gbps, row.tok_s * row.bytes_per_token * 1e-9, 0.01 * row.gbps);
  }
  // Three tokens share everything but some experts: fewer bytes for each than for one alone.
  EXPECT_LT(speed->decode[1].bytes_per_token, speed->decode[0].bytes_per_token);
}

TEST(TowerSpeed, CountsTheSoftTokensOfAPass) {
  ThreadPool pool(2);
  auto opened = Checkpoint::open(std::string(GEM8_TEST_DATA) + "/golden/models/tiny-vision");
  ASSERT_TRUE(opened) << opened.error().text();
  const auto checkpoint = std::make_shared<const Checkpoint>(std::move(*opened));
  const auto speed =
      measure_tower(checkpoint, pool, {.budgets = {70, 280}, .images = {1, 2}, .rounds = 1},
                    [](const std::string&) {});
  ASSERT_TRUE(speed) << speed.error().text();
  ASSERT_EQ(speed->size(), 4u);
  // A picture of 4 by 3 is 9 x 7 soft tokens of 70 and 19 x 14 of 280.
  for (std::size_t i = 0; i < 4; ++i) {
    const TowerSpeed& row = (*speed)[i];
    EXPECT_EQ(row.soft_tokens, i < 2 ? 63 : 266);
    EXPECT_EQ(row.images, i % 2 == 0 ? 1 : 2);
    EXPECT_GT(row.gflops, 0.0);
    EXPECT_GT(row.share, 0.0);
    EXPECT_NEAR(row.tok_s, row.images_s * static_cast<double>(row.soft_tokens), 1e-6 * row.tok_s);
  }
  auto text_only = Checkpoint::open(std::string(GEM8_TEST_DATA) + "/golden/models/tiny-31b");
  ASSERT_TRUE(text_only);
  const auto none = measure_tower(std::make_shared<const Checkpoint>(std::move(*text_only)), pool,
                                  {}, [](const std::string&) {});
  ASSERT_TRUE(none);
  EXPECT_TRUE(none->empty());
}

TEST(Synthetic, RefusesLayerCountsTheModelDoesNotHave) {
  ThreadPool pool(1);
  for (const int n_layers : {0, -1, 31}) {
    const auto checkpoint = make_synthetic_26b_a4b(n_layers, pool);
    ASSERT_FALSE(checkpoint);
    EXPECT_EQ(checkpoint.error().code, Code::kInvalidArgument);
  }
  for (const int n_layers : {-1, 28}) {
    const auto checkpoint = make_synthetic_26b_a4b(1, pool, n_layers);
    ASSERT_FALSE(checkpoint);
    EXPECT_EQ(checkpoint.error().code, Code::kInvalidArgument);
  }
}

}  // namespace
}  // namespace gem8
