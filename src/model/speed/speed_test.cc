#include "model/speed/speed.h"

#include <gtest/gtest.h>

#include <cmath>

#include "model/speed/synthetic.h"

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

TEST(Synthetic, RefusesLayerCountsTheModelDoesNotHave) {
  ThreadPool pool(1);
  for (const int n_layers : {0, -1, 31}) {
    const auto checkpoint = make_synthetic_26b_a4b(n_layers, pool);
    ASSERT_FALSE(checkpoint);
    EXPECT_EQ(checkpoint.error().code, Code::kInvalidArgument);
  }
}

}  // namespace
}  // namespace gem8
