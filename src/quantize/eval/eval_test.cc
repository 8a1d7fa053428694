#include "quantize/eval/eval.h"

#include <gtest/gtest.h>

#include <cmath>

#include "backend/device.h"
#include "formats/model_config.h"
#include "kernels/ops.h"
#include "quantize/eval/forced_run.h"
#include "tests/support/golden_checkpoint.h"

namespace gem8::eval {
namespace {

TEST(CompareRow, EqualDistributionsDoNotDiverge) {
  const std::vector<float> logits = {1.0f, 2.0f, -3.0f, 0.5f, 0.0f, 7.0f};
  const Row row = compare_row(logits, logits, 1);
  EXPECT_NEAR(row.kl, 0.0, 1e-12);
  EXPECT_TRUE(row.same_top1);
  EXPECT_EQ(row.common_top5, 5);
  EXPECT_EQ(row.source_nll, row.model_nll);
}

// p = (3/4, 1/4), q = (1/2, 1/2): KL = 3/4 log(3/2) + 1/4 log(1/2).
TEST(CompareRow, KnownDivergence) {
  const std::vector<float> p = {std::log(3.0f), 0.0f};
  const std::vector<float> q = {5.0f, 5.0f};
  const Row row = compare_row(p, q, 1);
  EXPECT_NEAR(row.kl, 0.75 * std::log(1.5) + 0.25 * std::log(0.5), 1e-6);
  EXPECT_NEAR(row.source_nll, std::log(4.0), 1e-6);
  EXPECT_NEAR(row.model_nll, std::log(2.0), 1e-6);
  EXPECT_TRUE(row.same_top1);  // equal logits rank by index
}

TEST(CompareRow, TopFiveCountsCommonTokens) {
  std::vector<float> p(10), q(10);
  for (std::size_t i = 0; i < 10; ++i)
    p[i] = static_cast<float>(i), q[i] = static_cast<float>(10 - i);
  const Row row = compare_row(p, q, 0);  // the five largest of p are 5..9, of q 0..4
  EXPECT_FALSE(row.same_top1);
  EXPECT_EQ(row.common_top5, 0);
}

TEST(CompareRow, AloneGivesItsOwnLikelihood) {
  const std::vector<float> q = {0.0f, 0.0f, 0.0f, 0.0f};
  EXPECT_NEAR(compare_row({}, q, 2).model_nll, std::log(4.0), 1e-9);
}

TEST(Quantile, ByRank) {
  std::vector<float> values = {5, 1, 4, 2, 3};
  EXPECT_EQ(quantile(values, 0.5), 3.0);
  EXPECT_EQ(quantile(values, 0.99), 5.0);
  values.clear();
  EXPECT_EQ(quantile(values, 0.5), 0.0);
}

class WithModel : public ::testing::Test {
 protected:
  std::unique_ptr<Model> load(const std::string& name) {
    const auto dir = testing::golden_path(name);
    if (!dir) return nullptr;
    auto model = Model::load(testing::open_checkpoint(*dir), *ops_, {.max_batch_tokens = 128});
    if (!model) ADD_FAILURE() << model.error().text();
    return model ? std::move(*model) : nullptr;
  }

  ThreadPool pool_{2};
  std::unique_ptr<Device> device_ = make_cpu_device();
  std::unique_ptr<Ops> ops_ = *make_cpu_ops(*device_, pool_, {.activation_dtype = DType::kF32});
};

TEST_F(WithModel, AModelAgreesWithItself) {
  const auto model = load("models/tiny-31b");
  const auto same = load("models/tiny-31b");
  if (model == nullptr || same == nullptr)
    GTEST_SKIP() << "tiny-31b is not among the fixtures here";
  auto run = ForcedRun::create({same.get()}, {model.get()}, 100, 0, pool_);
  ASSERT_TRUE(run) << run.error().text();
  TokenSample sample;
  for (int i = 0; i < 100; ++i) sample.tokens.push_back(TokenId{2 + 5 * i});
  const auto totals = run->run(sample);
  ASSERT_TRUE(totals) << totals.error().text();
  EXPECT_EQ(totals->tokens, 99);
  EXPECT_EQ(totals->same_top1, 99);
  EXPECT_EQ(totals->common_top5, 5 * 99);
  EXPECT_EQ(totals->source_nll, totals->model_nll);
  for (const LayerSums& layer : totals->layers) EXPECT_EQ(layer.error_square, 0.0);
}

// Weights in FP8 differ from bf16 by rounding: something, but little.
TEST_F(WithModel, QuantisedModelDiffersALittle) {
  const auto source = load("models/tiny-26b");
  const auto model = load("quant/tiny-26b-fp8");
  if (model == nullptr || source == nullptr)
    GTEST_SKIP() << "tiny-26b is not among the fixtures here";
  auto run = ForcedRun::create({source.get()}, {model.get()}, 70, 0, pool_);
  ASSERT_TRUE(run) << run.error().text();
  TokenSample sample;
  for (int i = 0; i < 70; ++i) sample.tokens.push_back(TokenId{2 + 7 * i});
  const auto totals = run->run(sample);
  ASSERT_TRUE(totals) << totals.error().text();
  for (const LayerSums& layer : totals->layers) {
    const double relative = std::sqrt(layer.error_square / layer.source_square);
    EXPECT_GT(relative, 0.0);
    EXPECT_LT(relative, 0.5);
    EXPECT_EQ(layer.choices, 70 * 4);
  }
}

TEST_F(WithModel, ModelsOfDifferentShapesAreRefused) {
  const auto a = load("models/tiny-31b");
  const auto b = load("models/tiny-12b");
  if (a == nullptr || b == nullptr) GTEST_SKIP() << "the models are not among the fixtures here";
  const auto run = ForcedRun::create({a.get()}, {b.get()}, 10, 0, pool_);
  ASSERT_FALSE(run);
  EXPECT_EQ(run.error().code, Code::kInvalidArgument);
}

TEST_F(WithModel, GreedyAnswersDoNotDependOnTheBatch) {
  const auto model = load("models/tiny-31b");
  if (model == nullptr) GTEST_SKIP() << "tiny-31b is not among the fixtures here";
  std::vector<TokenSample> prompts(20);
  for (int p = 0; p < 20; ++p) {
    auto& prompt = prompts[static_cast<std::size_t>(p)].tokens;
    prompt.push_back(TokenId{2});
    for (int i = 0; i <= p; ++i) prompt.push_back(TokenId{10 + 3 * p + i});
  }
  const GreedyOptions options{.max_new_tokens = 6};
  std::vector<const TokenSample*> together;
  for (const TokenSample& prompt : prompts) together.push_back(&prompt);
  const auto all = generate_greedily({model.get()}, together, options);
  ASSERT_TRUE(all) << all.error().text();
  for (std::size_t p = 0; p < prompts.size(); ++p) {
    const TokenSample* const alone[] = {&prompts[p]};
    const auto one = generate_greedily({model.get()}, alone, options);
    ASSERT_TRUE(one);
    EXPECT_EQ((*one)[0], (*all)[p]) << p;
    EXPECT_EQ((*one)[0].size(), 6u);
  }
}

class Answers : public ::testing::Test {
 protected:
  void SetUp() override {
    auto tokenizer = Tokenizer::load(std::filesystem::path(GEM8_SOURCE_DIR) / "models" / "demo");
    if (!tokenizer) GTEST_SKIP() << "the demo model is not here";
    tokenizer_.emplace(std::move(*tokenizer));
  }
  bool right(Json answer, std::string_view written) {
    Sample sample{.answer = std::move(answer)};
    return score(sample, tokenizer_->encode(written), *tokenizer_).right;
  }
  std::size_t attributes(std::vector<std::string> words, std::string_view written) {
    const Sample sample{.answer = "The reference.", .attributes = std::move(words)};
    const Score got = score(sample, tokenizer_->encode(written), *tokenizer_);
    EXPECT_FALSE(got.right);
    EXPECT_EQ(got.parts, sample.attributes.size());
    return got.right_parts;
  }
  std::optional<Tokenizer> tokenizer_;
};

TEST_F(Answers, TextsAreEqualButForWhiteSpaceAround) {
  EXPECT_TRUE(right("It is pink.", " It is pink.\n"));
  EXPECT_FALSE(right("It is pink.", "It is red."));
  EXPECT_FALSE(right("It is pink.", ""));
}

TEST_F(Answers, CallsAreComparedAsCalls) {
  const auto wanted = [] {
    return *parse_json(R"([{"name": "add", "arguments": {"b": 2, "a": 1}}])");
  };
  EXPECT_TRUE(right(wanted(), "<|tool_call>call:add{a:1,b:2}<tool_call|>"));
  EXPECT_FALSE(right(wanted(), "<|tool_call>call:add{a:1,b:3}<tool_call|>"));
  EXPECT_FALSE(right(wanted(), "<|tool_call>call:sub{a:1,b:2}<tool_call|>"));
  EXPECT_FALSE(right(wanted(), "add(1, 2)"));
  EXPECT_FALSE(right("add(1, 2)", "<|tool_call>call:add{a:1,b:2}<tool_call|>"));
  EXPECT_FALSE(right(wanted(), "<|tool_call>call:add{a:1,b:2.0}<tool_call|>"));  // another type
  EXPECT_FALSE(right(wanted(),
                     "<|tool_call>call:add{a:1,b:2}<tool_call|>"
                     "<|tool_call>call:add{a:1,b:2}<tool_call|>"));
}

TEST_F(Answers, EveryCallIsAPart) {
  const Sample sample{.answer = *parse_json(
                          R"([{"name": "f", "arguments": {"a": 1}}, {"name": "g", "arguments": {}},
                              {"name": "h", "arguments": {"b": "x"}}])")};
  const Score got = score(sample,
                          tokenizer_->encode("<|tool_call>call:f{a:1}<tool_call|>"
                                             "<|tool_call>call:g{a:1}<tool_call|>"),
                          *tokenizer_);
  EXPECT_FALSE(got.right);
  EXPECT_EQ(got.right_parts, 1u);
  EXPECT_EQ(got.parts, 3u);
}

TEST_F(Answers, AttributesCountWordByWord) {
  EXPECT_EQ(attributes({"pink", "star"}, "It is a Pink star."), 2u);
  EXPECT_EQ(attributes({"pink", "star"}, "Two pink stars, both pink"), 2u);
  EXPECT_EQ(attributes({"red", "red"}, "red"), 1u);
  EXPECT_EQ(attributes({"cross"}, "one cross"), 1u);
  EXPECT_EQ(attributes({"yes", "3"}, "yes,3"), 2u);
  EXPECT_EQ(attributes({"3"}, "33 starred"), 0u);
  EXPECT_EQ(attributes({"red"}, ""), 0u);
}

}  // namespace
}  // namespace gem8::eval
