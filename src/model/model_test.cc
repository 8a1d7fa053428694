// What Model refuses, and what it must not do. What it computes is in tests/golden.
#include "model/model.h"

#include <gtest/gtest.h>

#include <fstream>
#include <functional>

#include "formats/safetensors_writer.h"
#include "model/matrix.h"
#include "tests/golden/text_model.h"
#include "tests/support/allocation_counter.h"

namespace gem8 {
namespace {

namespace fs = std::filesystem;
using testing::Engine;

fs::path tiny_12b() {
  return fs::path(GEM8_TEST_DATA) / "golden/models/tiny-12b";
}

std::vector<TokenId> ids_of(std::initializer_list<std::int32_t> ids) {
  std::vector<TokenId> tokens;
  for (const std::int32_t id : ids) tokens.push_back(TokenId{id});
  return tokens;
}

class ModelPlan : public ::testing::Test {
 protected:
  void SetUp() override { ASSERT_NE(engine_.model, nullptr); }

  Status plan(std::vector<SequenceChunk> chunks) {
    return engine_.model->plan({.chunks = chunks}, *cache_, step_);
  }
  void expect_refused(std::vector<SequenceChunk> chunks, Code code = Code::kInvalidArgument) {
    const Status status = plan(std::move(chunks));
    ASSERT_FALSE(status);
    EXPECT_EQ(status.error().code, code) << status.error().text();
    EXPECT_EQ(cache_->used_pages(CacheGroup::kFull), 0);
  }

  Engine engine_ =
      Engine::load(tiny_12b(), {.activation_dtype = DType::kF32}, {.max_batch_tokens = 64});
  std::unique_ptr<KvCache> cache_ = engine_.cache(2);
  CacheSeq seq_ = cache_->open();
  Step step_;
  // 630 stands for an image's soft tokens in this model, 631 for audio.
  std::vector<TokenId> text_ = ids_of({2, 7, 8, 9});
  std::vector<TokenId> image_ = ids_of({2, 630, 630, 9});
  std::vector<float> soft_rows_ = std::vector<float>(48 * 4, 0.5f);
  ConstMat soft(std::int64_t rows) { return {soft_rows_.data(), DType::kF32, rows, 48, 48}; }
};

TEST_F(ModelPlan, RefusesWhatNoModelCanRun) {
  const std::vector<TokenId> none, negative = ids_of({-1}), beyond = ids_of({640}),
                                   long_one(65, TokenId{5});
  expect_refused({});
  expect_refused({{.seq = seq_, .tokens = none, .first_position = 0, .soft = {}}});
  expect_refused({{.seq = seq_, .tokens = negative, .first_position = 0, .soft = {}}});
  expect_refused({{.seq = seq_, .tokens = beyond, .first_position = 0, .soft = {}}});
  expect_refused({{.seq = seq_, .tokens = text_, .first_position = 1, .soft = {}}});
  expect_refused({{.seq = CacheSeq{9}, .tokens = text_, .first_position = 0, .soft = {}}});
  expect_refused({{.seq = seq_, .tokens = long_one, .first_position = 0, .soft = {}}});
  expect_refused({{.seq = seq_, .tokens = text_, .first_position = 0, .soft = {}},
                  {.seq = seq_, .tokens = text_, .first_position = 0, .soft = {}}});
}

TEST_F(ModelPlan, SaysWhenPagesRunOut) {
  const CacheSeq other = cache_->open();
  const std::vector<TokenId> one_page(31, TokenId{5}), two_pages(33, TokenId{5});
  expect_refused({{.seq = seq_, .tokens = one_page, .first_position = 0, .soft = {}},
                  {.seq = other, .tokens = two_pages, .first_position = 0, .soft = {}}},
                 Code::kExhausted);
}

TEST_F(ModelPlan, RefusesSoftTokensThatDoNotFit) {
  const auto chunk = [&](std::span<const SoftTokens> soft) {
    return SequenceChunk{.seq = seq_, .tokens = image_, .first_position = 0, .soft = soft};
  };
  const SoftTokens off[] = {{0, soft(1)}};                  // token 2 is no placeholder
  const SoftTokens over[] = {{2, soft(3)}};                 // past the end
  const SoftTokens twice[] = {{1, soft(2)}, {2, soft(1)}};  // the same position
  const SoftTokens narrow[] = {{1, {soft_rows_.data(), DType::kF32, 2, 47, 48}}};
  const SoftTokens wrong_type[] = {{1, {soft_rows_.data(), DType::kBF16, 2, 48, 48}}};
  const SoftTokens negative[] = {{-1, soft(1)}};
  for (const std::span<const SoftTokens> soft :
       {std::span<const SoftTokens>(off), std::span<const SoftTokens>(over),
        std::span<const SoftTokens>(twice), std::span<const SoftTokens>(narrow),
        std::span<const SoftTokens>(wrong_type), std::span<const SoftTokens>(negative)}) {
    expect_refused({chunk(soft)});
  }
}

TEST_F(ModelPlan, BlocksAreRunsOfCoveredImageTokens) {
  const std::vector<TokenId> ids = ids_of({630, 630, 5, 630, 634, 631, 630});
  const SoftTokens placed[] = {{0, soft(2)}, {3, soft(1)}, {4, soft(2)}};
  ASSERT_TRUE(plan({{.seq = seq_, .tokens = ids, .first_position = 0, .soft = placed}}));
  // An image, then an image and a video that touch; audio and the placeholder without soft rows
  // stay causal.
  ASSERT_EQ(step_.blocks.size(), 2u);
  EXPECT_EQ(step_.blocks[0].first_position, 0);
  EXPECT_EQ(step_.blocks[0].n_tokens, 2);
  EXPECT_EQ(step_.blocks[1].first_position, 3);
  EXPECT_EQ(step_.blocks[1].n_tokens, 2);
  for (const std::size_t i : {0u, 1u, 3u, 4u, 5u, 6u}) EXPECT_EQ(step_.lookup[i], TokenId{0});
  EXPECT_EQ(step_.lookup[2], TokenId{5});
}

TEST_F(ModelPlan, AnImageCutByAChunkIsRefused) {
  const std::vector<TokenId> begins = ids_of({2, 630}), continues = ids_of({630, 5});
  const SoftTokens last[] = {{1, soft(1)}}, first[] = {{0, soft(1)}};
  const SequenceChunk chunk{
      .seq = seq_, .tokens = begins, .first_position = 0, .soft = last, .logits = Logits::kNone};
  ASSERT_TRUE(engine_.model->forward({.chunks = {&chunk, 1}}, *cache_, {}));
  const Status status =
      plan({{.seq = seq_, .tokens = continues, .first_position = 2, .soft = first}});
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().code, Code::kInvalidArgument);
  // A generated placeholder has no soft row and goes on causally.
  EXPECT_TRUE(plan({{.seq = seq_, .tokens = continues, .first_position = 2, .soft = {}}}));
}

TEST_F(ModelPlan, AStepInSteadyStateAllocatesNothing) {
  const CacheSeq other = cache_->open();
  auto logits = Matrix::create(*engine_.device, DType::kF32, 2, engine_.model->vocab());
  ASSERT_TRUE(logits);
  const std::vector<TokenId> token = ids_of({7});
  const auto step = [&](std::int64_t position) {
    const SequenceChunk chunks[] = {
        {.seq = seq_, .tokens = token, .first_position = position, .soft = {}},
        {.seq = other, .tokens = token, .first_position = position, .soft = {}}};
    return engine_.model->forward({.chunks = chunks}, *cache_, logits->mat()).has_value();
  };
  for (std::int64_t position = 0; position < 8; ++position) ASSERT_TRUE(step(position));
  const testing::AllocationCounter counter;
  bool done = true;
  for (std::int64_t position = 8; position < 24; ++position) done = step(position) && done;
  EXPECT_EQ(counter.count(), 0);
  EXPECT_TRUE(done);
}

/// A copy of tiny-12b whose tensors `edit` may change or drop (return false).
class ModelLoad : public ::testing::Test {
 protected:
  using Edit = std::function<bool(TensorSpec& spec, std::vector<std::byte>& bytes)>;

  Error load_error(const Edit& edit) {
    const fs::path dir = fs::path(::testing::TempDir()) / "gem8-model-test";
    fs::create_directories(dir);
    fs::copy_file(tiny_12b() / "config.json", dir / "config.json",
                  fs::copy_options::overwrite_existing);
    const auto source = SafetensorsFile::open(tiny_12b() / "model.safetensors");
    EXPECT_TRUE(source);
    std::vector<TensorSpec> specs;
    std::vector<std::vector<std::byte>> contents;
    for (const TensorInfo& info : source->tensors()) {
      TensorSpec spec{info.name, info.dtype, info.shape};
      std::vector<std::byte> bytes(info.bytes.begin(), info.bytes.end());
      if (!edit(spec, bytes)) continue;
      specs.push_back(spec);
      contents.push_back(bytes);
    }
    auto writer = SafetensorsWriter::create(dir / "model.safetensors", specs);
    EXPECT_TRUE(writer);
    for (std::size_t i = 0; i < specs.size(); ++i)
      EXPECT_TRUE(writer->append(specs[i].name, contents[i]));
    EXPECT_TRUE(writer->finish());

    auto checkpoint = Checkpoint::open(dir);
    EXPECT_TRUE(checkpoint) << checkpoint.error().text();
    auto model = Model::load(std::make_shared<const Checkpoint>(std::move(*checkpoint)), *ops_,
                             {.max_batch_tokens = 8});
    fs::remove_all(dir);
    return model ? Error{} : model.error();
  }

  static constexpr const char* kQ = "model.language_model.layers.1.self_attn.q_proj.weight";
  std::unique_ptr<Device> device_ = make_cpu_device();
  ThreadPool pool_{1};
  std::unique_ptr<Ops> ops_ = *make_cpu_ops(*device_, pool_, {.activation_dtype = DType::kF32});
};

TEST_F(ModelLoad, AMissingTensorIsNamed) {
  const Error error = load_error([](TensorSpec& spec, auto&) { return spec.name != kQ; });
  EXPECT_EQ(error.code, Code::kNotFound);
  EXPECT_NE(error.text().find(kQ), std::string::npos) << error.text();
}

TEST_F(ModelLoad, AnotherShapeIsNamedWithTheOneWanted) {
  const Error error = load_error([](TensorSpec& spec, auto&) {
    if (spec.name == kQ) std::swap(spec.shape[0], spec.shape[1]);
    return true;
  });
  EXPECT_EQ(error.code, Code::kCorrupt);
  EXPECT_NE(error.text().find("shape [48, 256], config wants [256, 48]"), std::string::npos)
      << error.text();
}

TEST_F(ModelLoad, AnotherElementTypeIsRefused) {
  const Error error = load_error([](TensorSpec& spec, auto&) {
    if (spec.name == kQ) spec.dtype = DType::kF16;
    return true;
  });
  EXPECT_EQ(error.code, Code::kUnsupported);
  EXPECT_NE(error.text().find("F16"), std::string::npos) << error.text();
}

TEST_F(ModelLoad, Fp8WithoutItsScaleIsRefused) {
  const Error error = load_error([](TensorSpec& spec, std::vector<std::byte>& bytes) {
    if (spec.name == kQ) {
      spec.dtype = DType::kF8E4M3;
      bytes.resize(bytes.size() / 2);
    }
    return true;
  });
  EXPECT_EQ(error.code, Code::kNotFound);
  EXPECT_NE(error.text().find("q_proj.weight_scale"), std::string::npos) << error.text();
}

TEST_F(ModelLoad, AScalarOfAnotherShapeIsRefused) {
  const Error error = load_error([](TensorSpec& spec, std::vector<std::byte>& bytes) {
    if (spec.name.ends_with("layers.0.layer_scalar")) {
      spec.shape = {0};
      bytes.clear();
    }
    return true;
  });
  EXPECT_EQ(error.code, Code::kCorrupt) << error.text();
}

}  // namespace
}  // namespace gem8
