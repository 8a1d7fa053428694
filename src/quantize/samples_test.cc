#include "quantize/samples.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "formats/model_config.h"
#include "tests/support/golden_checkpoint.h"

namespace gem8 {
namespace {

std::vector<std::int32_t> numbers(const std::vector<TokenId>& ids) {
  std::vector<std::int32_t> result;
  for (const TokenId id : ids) result.push_back(static_cast<std::int32_t>(id));
  return result;
}

class SamplesTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const auto bare = testing::golden_path("models/tiny-31b");
    if (bare) bare_ = testing::open_checkpoint(*bare);
    if (std::filesystem::exists(demo_ / "model.safetensors"))
      full_ = testing::open_checkpoint(demo_);
  }

  const std::filesystem::path demo_ = std::filesystem::path(GEM8_SOURCE_DIR) / "models" / "demo";
  std::shared_ptr<const Checkpoint> bare_;  ///< without a tokenizer
  std::shared_ptr<const Checkpoint> full_;
};

TEST_F(SamplesTest, TokensNeedNoTokenizerAndAreTakenAsTheyAre) {
  if (bare_ == nullptr) GTEST_SKIP() << "tiny-31b is not among the fixtures here";
  const auto samples =
      read_samples("{\"tokens\": [2, 5, 7]}\n\n{\"tokens\": [9]}\n", "x", *bare_, {});
  ASSERT_TRUE(samples) << samples.error().text();
  ASSERT_EQ(samples->tokens.size(), 2u);
  EXPECT_EQ(numbers(samples->tokens[0]), (std::vector<std::int32_t>{2, 5, 7}));
  EXPECT_EQ(numbers(samples->tokens[1]), (std::vector<std::int32_t>{9}));
}

TEST_F(SamplesTest, LimitsCountAndLength) {
  if (bare_ == nullptr) GTEST_SKIP() << "tiny-31b is not among the fixtures here";
  const auto samples = read_samples("{\"tokens\": [2, 5, 7]}\n{\"tokens\": [2]}\n{\"tokens\": [2]}",
                                    "x", *bare_, {.max_samples = 2, .max_tokens = 2});
  ASSERT_TRUE(samples);
  EXPECT_EQ(samples->tokens.size(), 2u);
  EXPECT_EQ(samples->tokens[0].size(), 2u);
  EXPECT_EQ(samples->cut, 1u);
}

TEST_F(SamplesTest, BadLinesAreRefusedByNumber) {
  if (bare_ == nullptr) GTEST_SKIP() << "tiny-31b is not among the fixtures here";
  for (const std::string_view line :
       {"{", "[]", "{}", "{\"tokens\": 3}", "{\"tokens\": []}", "{\"tokens\": [640]}",
        "{\"tokens\": [-1]}", "{\"tokens\": [\"a\"]}", "{\"text\": 7}"}) {
    const auto samples =
        read_samples("{\"tokens\": [2]}\n" + std::string(line), "file.jsonl", *bare_, {});
    ASSERT_FALSE(samples) << line;
    EXPECT_EQ(samples.error().code, Code::kInvalidArgument) << line;
    EXPECT_NE(samples.error().text().find("file.jsonl:2"), std::string::npos)
        << samples.error().text();
  }
  EXPECT_EQ(read_samples("\n\n", "x", *bare_, {}).error().code, Code::kInvalidArgument);
}

TEST_F(SamplesTest, BuiltInMixRendersWithOneBosEach) {
  if (full_ == nullptr) GTEST_SKIP() << "the demo model is not here";
  const auto samples = read_samples(builtin_calibration(), "built-in", *full_, {});
  ASSERT_TRUE(samples) << samples.error().text();
  EXPECT_GE(samples->tokens.size(), 24u);
  const TokenId bos{full_->config().text.bos_token_id};
  for (const auto& sample : samples->tokens) {
    EXPECT_EQ(std::ranges::count(sample, bos), 1);
    EXPECT_EQ(sample.front(), bos);
  }
}

TEST_F(SamplesTest, TextGetsItsBosAndImagesAreLeftOut) {
  if (full_ == nullptr) GTEST_SKIP() << "the demo model is not here";
  const auto samples = read_samples(
      "{\"text\": \"one\"}\n{\"text\": \"<bos>one\"}\n"
      "{\"messages\": [{\"role\": \"user\", \"content\": [{\"type\": \"image\"}]}], \"images\": "
      "[\"a.png\"]}\n",
      "x", *full_, {});
  ASSERT_TRUE(samples) << samples.error().text();
  ASSERT_EQ(samples->tokens.size(), 2u);
  EXPECT_EQ(numbers(samples->tokens[0]), numbers(samples->tokens[1]));
  EXPECT_EQ(samples->images, 1u);
}

}  // namespace
}  // namespace gem8
