#include "model/trace.h"

#include <gtest/gtest.h>

#include "tests/golden/text_model.h"

namespace gem8 {
namespace {

namespace fs = std::filesystem;

class TraceTest : public ::testing::Test {
 protected:
  void SetUp() override { ASSERT_NE(engine_.model, nullptr); }
  void TearDown() override {
    std::error_code ignored;
    fs::remove(path_, ignored);
  }

  testing::Golden trace(std::int64_t chunk) {
    Trace trace(*engine_.device);
    const Status traced = trace_sequence(*engine_.model, ids_, {}, chunk, trace);
    EXPECT_TRUE(traced) << traced.error().text();
    const Status written = trace.write(path_);
    EXPECT_TRUE(written) << written.error().text();
    return testing::Golden(path_);
  }

  testing::Engine engine_ = testing::Engine::load(
      fs::path(GEM8_TEST_DATA) / "golden/models/tiny-31b", {.activation_dtype = DType::kF32});
  fs::path path_ = fs::path(::testing::TempDir()) / "gem8-trace-test.safetensors";
  std::vector<TokenId> ids_ = {TokenId{2}, TokenId{17}, TokenId{5}, TokenId{400},
                               TokenId{5}, TokenId{33}, TokenId{2}};
};

TEST_F(TraceTest, HoldsEveryTensorWithItsShape) {
  const testing::Golden file = trace(0);
  const auto shape = [&](const char* name) {
    const auto dims = file.shape(name);
    return std::vector<std::int64_t>(dims.begin(), dims.end());
  };
  EXPECT_EQ(file.names().size(), 4u + 12u);
  EXPECT_EQ(shape("tokens"), (std::vector<std::int64_t>{7}));
  EXPECT_EQ(shape("embeddings"), (std::vector<std::int64_t>{7, 48}));
  EXPECT_EQ(shape("layers.11.output"), (std::vector<std::int64_t>{7, 48}));
  EXPECT_EQ(shape("final_norm"), (std::vector<std::int64_t>{7, 48}));
  EXPECT_EQ(shape("logits"), (std::vector<std::int64_t>{7, 640}));
  EXPECT_EQ(file.ints("tokens"), (std::vector<std::int64_t>{2, 17, 5, 400, 5, 33, 2}));
  EXPECT_EQ(file.floats("logits"), testing::run(engine_, ids_));
}

TEST_F(TraceTest, ChunksGiveTheSameFile) {
  const testing::Golden whole = trace(0);
  const std::vector<float> logits = whole.floats("logits");
  const std::vector<float> hidden = whole.floats("layers.5.output");
  const testing::Golden chunked = trace(3);
  EXPECT_EQ(chunked.floats("logits"), logits);
  EXPECT_EQ(chunked.floats("layers.5.output"), hidden);
}

TEST_F(TraceTest, RefusesNoTokens) {
  Trace trace(*engine_.device);
  const Status status = trace_sequence(*engine_.model, {}, {}, 0, trace);
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().code, Code::kInvalidArgument);
}

}  // namespace
}  // namespace gem8
