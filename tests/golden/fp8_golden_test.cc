// FP8 checkpoints in float32 activations against the reference's two readings of the same file:
// weights code * scale, and W8A8.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "tests/golden/text_model.h"

namespace gem8::testing {
namespace {

/// These goldens are plain float32 runs of the reference implementation.
constexpr ModelOptions kAsReference{.max_batch_tokens = 64, .unrounded_embedding_scale = true};

class Fp8Golden : public ::testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    const std::string name = GetParam();
    dir_ = golden_path("quant/" + name);
    const auto tensors = golden_path("quant/" + name + "-logits.safetensors");
    if (!dir_ || !tensors)
      GTEST_SKIP() << "no golden data of " << name << " (it does not ship with the sources)";
    golden_.emplace(*tensors);
  }

  std::optional<std::filesystem::path> dir_;
  std::optional<Golden> golden_;
};

TEST_P(Fp8Golden, WeightOnlyLogits) {
  const Engine engine = Engine::load(
      *dir_, {.activation_dtype = DType::kF32, .activations = Activations::kBF16}, kAsReference);
  ASSERT_NE(engine.model, nullptr);
  double worst = 0;
  int prompts = 0;
  for (; golden_->has(std::to_string(prompts) + ".ids"); ++prompts) {
    const std::string i = std::to_string(prompts);
    worst = std::max(worst, largest_difference(run(engine, golden_->tokens(i + ".ids")),
                                               golden_->floats("weight_only." + i + ".logits")));
  }
  std::printf("fp8     %-14s weight-only logits: %.1e of 3.0e-04\n", GetParam(), worst);
  EXPECT_GT(prompts, 0);
  EXPECT_LE(worst, 3e-4);
}

TEST_P(Fp8Golden, W8A8Logits) {
  const Engine engine = Engine::load(
      *dir_, {.activation_dtype = DType::kF32, .activations = Activations::kFP8}, kAsReference);
  ASSERT_NE(engine.model, nullptr);
  const auto vocab = static_cast<std::size_t>(engine.model->vocab());
  double squares = 0, worst = 0, count = 0;
  for (int prompt = 0; golden_->has(std::to_string(prompt) + ".ids"); ++prompt) {
    const std::string i = std::to_string(prompt);
    const std::vector<float> mine = run(engine, golden_->tokens(i + ".ids"));
    const std::vector<float> theirs = golden_->floats("w8a8." + i + ".logits");
    ASSERT_EQ(mine.size(), theirs.size());
    worst = std::max(worst, largest_difference(mine, theirs));
    for (std::size_t j = 0; j < mine.size(); ++j)
      squares += std::pow(static_cast<double>(mine[j]) - theirs[j], 2);
    count += static_cast<double>(mine.size());
    for (std::size_t row = 0; row * vocab < mine.size(); ++row) {
      const auto of = [&](const std::vector<float>& x) {
        return std::span(x).subspan(row * vocab, vocab);
      };
      const auto best = std::ranges::max_element(of(theirs)) - of(theirs).begin();
      float second = -INFINITY;
      for (std::size_t j = 0; j < vocab; ++j) {
        if (static_cast<std::ptrdiff_t>(j) != best) second = std::max(second, of(theirs)[j]);
      }
      if (of(theirs)[static_cast<std::size_t>(best)] - second > 1) {
        EXPECT_EQ(std::ranges::max_element(of(mine)) - of(mine).begin(), best)
            << "prompt " << prompt << " row " << row;
      }
    }
  }
  ASSERT_GT(count, 0);
  const double rms = std::sqrt(squares / count);
  std::printf("fp8     %-14s W8A8 logits: rms %.1e of 0.4, largest %.1e\n", GetParam(), rms, worst);
  EXPECT_LE(rms, 0.4);
}

INSTANTIATE_TEST_SUITE_P(Checkpoints, Fp8Golden,
                         ::testing::Values("tiny-26b-fp8", "corners-26b-fp8", "tiny-31b-fp8"),
                         family_name);

}  // namespace
}  // namespace gem8::testing
