// Pictures and quantisation: what calibration sees of them, and what FP8 leaves of what they say.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "backend/device.h"
#include "formats/model_config.h"
#include "foundation/fp8.h"
#include "kernels/ops.h"
#include "quantize/calibrator.h"
#include "quantize/quantizer.h"
#include "tests/support/golden_checkpoint.h"
#include "tests/support/temporary_folder.h"

namespace gem8 {
namespace {

namespace fs = std::filesystem;

std::optional<fs::path> seeing_model(const std::string& name) {
  if (const auto shipped = testing::golden_path("models/" + name)) return shipped;
  return testing::golden_path("vision/" + name);
}

/// Two samples that show a picture each among text, one that shows none.
std::vector<TokenSample> samples_for(const Checkpoint& checkpoint) {
  const auto picture = testing::golden_path("vision/images/rgb_37x61.png");
  const SpecialTokenIds& special = checkpoint.config().tokens;
  std::vector<TokenSample> samples;
  for (int s = 0; s < 3; ++s) {
    TokenSample& sample = samples.emplace_back();
    sample.tokens = {TokenId{2}};
    for (int i = 0; i < 5 + s; ++i) sample.tokens.push_back(TokenId{300 + 40 * s + i});
    if (s < 2) {
      SampleImage image{.position = std::ssize(sample.tokens) + 1, .file = *picture};
      image.options.soft_tokens = 70;
      const auto patches = read_patches(image);
      EXPECT_TRUE(patches) << patches.error().text();
      image.n_tokens = patches ? patches->soft_tokens() : 1;
      sample.tokens.push_back(TokenId{*special.boi});
      sample.tokens.insert(sample.tokens.end(), static_cast<std::size_t>(image.n_tokens),
                           TokenId{*special.image});
      sample.tokens.push_back(TokenId{*special.eoi});
      sample.images.push_back(image);
    }
    for (int i = 0; i < 9; ++i) sample.tokens.push_back(TokenId{200 + 31 * i});
  }
  return samples;
}

/// A model with its tower, in float32.
class Seeing {
 public:
  explicit Seeing(std::shared_ptr<const Checkpoint> checkpoint) {
    auto model = Model::load(checkpoint, *ops, {.max_batch_tokens = 256});
    auto tower = VisionTower::load(checkpoint, *ops);
    if (!model || !tower) {
      ADD_FAILURE() << (model ? tower.error().text() : model.error().text());
      return;
    }
    model_ = std::move(*model);
    tower_ = std::move(*tower);
  }

  Model& model() { return *model_; }
  VisionTower& tower() { return *tower_; }
  bool is_whole() const { return model_ != nullptr && tower_ != nullptr; }

  std::vector<float> soft_tokens(const SampleImage& image) {
    const auto soft = encode_image(*tower_, image);
    if (!soft) {
      ADD_FAILURE() << soft.error().text();
      return {};
    }
    const auto* const data = static_cast<const float*>(soft->rows.data);
    return {data, data + soft->rows.rows * soft->rows.cols};
  }

  /// Logits of every token of a sample in one step.
  std::vector<float> run(const TokenSample& sample, Observer* observer = nullptr) {
    std::vector<SoftTokenMatrix> encoded;
    std::vector<SoftTokens> soft;
    for (const SampleImage& image : sample.images) {
      encoded.push_back(*encode_image(*tower_, image));
      soft.push_back({image.position, encoded.back().rows});
    }
    const auto cache =
        KvCache::create(model_->config().text, *ops, {.sliding_pages = 16, .full_pages = 16});
    const SequenceChunk chunk{
        .seq = (*cache)->open(), .tokens = sample.tokens, .soft = soft, .logits = Logits::kAll};
    const std::int64_t vocab = model_->vocab();
    const std::int64_t rows = std::ssize(sample.tokens);
    std::vector<float> logits(static_cast<std::size_t>(rows * vocab));
    const Status status =
        model_->forward({.chunks = std::span(&chunk, 1)}, **cache,
                        {logits.data(), DType::kF32, rows, vocab, vocab}, observer);
    EXPECT_TRUE(status) << status.error().text();
    return logits;
  }

  ThreadPool pool{2};
  std::unique_ptr<Device> device = make_cpu_device();
  std::unique_ptr<Ops> ops = *make_cpu_ops(*device, pool, {.activation_dtype = DType::kF32});

 private:
  std::unique_ptr<Model> model_;
  std::unique_ptr<VisionTower> tower_;
};

/// The largest input of each site and layer over forward passes.
class Maxima : public Observer {
 public:
  Maxima(Ops& ops, std::int64_t layers)
      : ops_(ops),
        attention_in(static_cast<std::size_t>(layers)),
        mlp_down_in(static_cast<std::size_t>(layers)) {}

  void tensor(Tap tap, std::int32_t layer, ConstMat x) override {
    if (tap != Tap::kAttentionIn && tap != Tap::kMlpDownIn) return;
    float& amax =
        (tap == Tap::kAttentionIn ? attention_in : mlp_down_in)[static_cast<std::size_t>(layer)];
    amax = std::max(amax, ops_.absmax(x));
  }

 private:
  Ops& ops_;

 public:
  std::vector<float> attention_in, mlp_down_in;
};

/// A model that sees, and samples that show it something.
class WithImages : public ::testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    const auto dir = seeing_model(GetParam());
    if (!dir) GTEST_SKIP() << GetParam() << " is not among the fixtures here";
    checkpoint = testing::open_checkpoint(*dir);
    ASSERT_NE(checkpoint, nullptr);
    samples = samples_for(*checkpoint);
  }

  Result<std::unique_ptr<Calibrator>> calibrator(Seeing& seeing) const {
    return Calibrator::create(*checkpoint, {&seeing.model(), &seeing.tower()}, samples,
                              folder.path(), std::uint64_t{1} << 30);
  }

  std::shared_ptr<const Checkpoint> checkpoint;
  std::vector<TokenSample> samples;
  testing::TemporaryFolder folder;
};

class CalibrationWithImages : public WithImages {};

TEST_P(CalibrationWithImages, SeesWhatTheForwardPassSees) {
  Seeing seeing(checkpoint);
  ASSERT_TRUE(seeing.is_whole());
  Maxima wanted(*seeing.ops, seeing.model().layers());
  for (const TokenSample& sample : samples) seeing.run(sample, &wanted);
  Maxima blind(*seeing.ops, seeing.model().layers());
  for (TokenSample sample : samples) {
    sample.images.clear();  // placeholders are then looked up as padding
    seeing.run(sample, &blind);
  }

  const auto calibration = calibrator(seeing);
  ASSERT_TRUE(calibration) << calibration.error().text();
  ASSERT_TRUE((*calibration)->start());
  bool pictures_matter = false;
  for (std::size_t i = 0; i < static_cast<std::size_t>(seeing.model().layers()); ++i) {
    const auto layer = (*calibration)->next_layer();
    ASSERT_TRUE(layer) << layer.error().text();
    const auto of = [&](InputSite site) { return layer->amax[static_cast<std::size_t>(site)]; };
    EXPECT_EQ(of(InputSite::kAttention), wanted.attention_in[i]) << i;
    EXPECT_EQ(of(InputSite::kMlpDown), wanted.mlp_down_in[i]) << i;
    pictures_matter |= wanted.mlp_down_in[i] != blind.mlp_down_in[i];
  }
  EXPECT_TRUE(pictures_matter);
  (*calibration)->remove_files();
  EXPECT_TRUE(fs::is_empty(folder.path()));
}

TEST_P(CalibrationWithImages, GoesOnAfterAnInterruption) {
  Seeing seeing(checkpoint);
  ASSERT_TRUE(seeing.is_whole());
  std::vector<LayerStatistics> whole;
  {
    const auto uninterrupted = *calibrator(seeing);
    ASSERT_TRUE(uninterrupted->start());
    for (std::int64_t i = 0; i < seeing.model().layers(); ++i) {
      whole.push_back(*uninterrupted->next_layer());
    }
  }
  auto first = *calibrator(seeing);
  ASSERT_TRUE(first->start());
  ASSERT_TRUE(first->next_layer());
  first.reset();
  const auto second = *calibrator(seeing);
  ASSERT_TRUE(second->resume(1));
  const auto next = second->next_layer();
  ASSERT_TRUE(next) << next.error().text();
  EXPECT_EQ(next->amax, whole[1].amax);
}

INSTANTIATE_TEST_SUITE_P(Models, CalibrationWithImages,
                         ::testing::Values("tiny-vision", "tiny-vision-e"), [](const auto& tested) {
                           std::string name = tested.param;
                           std::ranges::replace(name, '-', '_');
                           return name;
                         });

/// The FP8 checkpoint with every code * scale as a float32 number: what its weights mean.
std::shared_ptr<const Checkpoint> dequantised(const Checkpoint& fp8, const Checkpoint& source) {
  const auto memory = std::make_shared<std::vector<std::vector<float>>>();
  std::vector<TensorInfo> tensors;
  for (const CheckpointTensor& tensor : fp8.tensors()) {
    TensorInfo info = *tensor.info;
    if (info.name.ends_with(".weight_scale") || info.name.ends_with(".input_scale")) continue;
    if (info.dtype == DType::kF8E4M3) {
      float scale = 0.0f;
      std::memcpy(&scale, fp8.find(info.name + "_scale")->bytes.data(), sizeof scale);
      std::vector<float>& values = memory->emplace_back();
      for (const std::byte code : info.bytes) {
        values.push_back(kE4M3Values[std::to_integer<std::size_t>(code)] * scale);
      }
      info.dtype = DType::kF32;
      info.bytes = std::as_bytes(std::span(values));
    }
    tensors.push_back(std::move(info));
  }
  auto checkpoint = Checkpoint::from_tensors(source.config(), std::move(tensors), memory);
  EXPECT_TRUE(checkpoint) << checkpoint.error().text();
  return std::make_shared<const Checkpoint>(std::move(*checkpoint));
}

class Fp8WithImages : public WithImages {};

// Tower, connector and routers are the source's bytes, so a picture becomes the same soft tokens to
// the bit; and the logits behind it are those of weights code * scale, within the bound that
// holds for text against the reference implementation (3e-4, float32, logits up to 30).
TEST_P(Fp8WithImages, KeepsWhatSeesAndMeansItsWeights) {
  const std::shared_ptr<const Checkpoint> source = checkpoint;
  QuantizeOptions options{.out = folder.path() / "out"};
  options.samples = samples;
  options.calibration_dtype = DType::kF32;
  const auto plan = make_conversion_plan(*source, options.conversion);
  ASSERT_TRUE(plan) << plan.error().text();
  ThreadPool pool(2);
  const auto report = quantize(source, *plan, options, pool);
  ASSERT_TRUE(report) << report.error().text();
  const auto fp8 = testing::open_checkpoint(options.out);
  ASSERT_NE(fp8, nullptr);

  std::size_t n_tower = 0, n_connector = 0, n_router = 0, n_quantised = 0;
  for (const CheckpointTensor& tensor : source->tensors()) {
    const std::string& name = tensor.info->name;
    const bool tower = name.find("vision_tower.") != std::string::npos;
    const bool connector = name.find("embed_vision.") != std::string::npos;
    const bool router = name.find(".router.") != std::string::npos;
    n_tower += tower, n_connector += connector, n_router += router;
    if (!tower && !connector && !router) continue;
    const TensorInfo* const kept = fp8->find(name);
    ASSERT_NE(kept, nullptr) << name;
    EXPECT_EQ(kept->dtype, tensor.info->dtype) << name;
    EXPECT_EQ(kept->shape, tensor.info->shape) << name;
    EXPECT_TRUE(std::ranges::equal(kept->bytes, tensor.info->bytes)) << name;
  }
  for (const CheckpointTensor& tensor : fp8->tensors()) {
    n_quantised += tensor.info->dtype == DType::kF8E4M3;
  }
  EXPECT_GT(n_tower, 10u);
  EXPECT_GT(n_connector, 0u);
  EXPECT_EQ(n_router > 0, source->config().text.has_experts());
  EXPECT_GT(n_quantised, 10u);

  Seeing before(source), after(fp8), meant(dequantised(*fp8, *source));
  ASSERT_TRUE(before.is_whole() && after.is_whole() && meant.is_whole());
  for (const TokenSample& sample : samples) {
    for (const SampleImage& image : sample.images) {
      EXPECT_EQ(after.soft_tokens(image), before.soft_tokens(image));
    }
    const std::vector<float> of_source = before.run(sample);
    const std::vector<float> ours = after.run(sample), wanted = meant.run(sample);
    ASSERT_EQ(ours.size(), wanted.size());
    double largest = 0.0, largest_to_source = 0.0;
    for (std::size_t i = 0; i < ours.size(); ++i) {
      const auto distance = [&](const std::vector<float>& other) {
        return std::abs(static_cast<double>(ours[i]) - static_cast<double>(other[i]));
      };
      if (!(distance(wanted) <= largest)) largest = distance(wanted);
      largest_to_source = std::max(largest_to_source, distance(of_source));
    }
    EXPECT_LE(largest, 3e-4);
    EXPECT_GT(largest_to_source, 3e-4);  // else nothing was quantised
  }
}

INSTANTIATE_TEST_SUITE_P(Models, Fp8WithImages, ::testing::Values("tiny-vision", "tiny-vision-e"),
                         [](const auto& tested) {
                           std::string name = tested.param;
                           std::ranges::replace(name, '-', '_');
                           return name;
                         });

}  // namespace
}  // namespace gem8
