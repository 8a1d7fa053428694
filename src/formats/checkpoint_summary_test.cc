#include "formats/checkpoint_summary.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

#include "formats/safetensors_writer.h"
#include "tests/support/temporary_folder.h"

namespace gem8 {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

struct Spec {
  std::string name;
  DType dtype;
  std::vector<std::int64_t> shape;
  std::vector<float> values;  ///< F32 only; otherwise zero bytes
};

Checkpoint make(const testing::TemporaryFolder& folder, std::string_view config,
                const std::vector<Spec>& specs) {
  folder.write("config.json", config);
  std::vector<TensorSpec> tensors;
  for (const Spec& spec : specs) tensors.push_back({spec.name, spec.dtype, spec.shape});
  auto writer = SafetensorsWriter::create(folder.path() / kSingleFileName, tensors);
  for (const Spec& spec : specs) {
    std::vector<std::byte> bytes(*tensor_bytes(spec.dtype, spec.shape));
    if (spec.dtype == DType::kF32) std::memcpy(bytes.data(), spec.values.data(), bytes.size());
    EXPECT_TRUE(writer->append(spec.name, bytes));
  }
  EXPECT_TRUE(writer->finish());
  return *Checkpoint::open(folder.path());
}

constexpr std::string_view kStatic =
    R"({"model_type":"gemma4","text_config":{"num_hidden_layers":1},
        "quantization_config":{"quant_method":"fp8","activation_scheme":"static"}})";
const std::string kLayer = "model.language_model.layers.0.";

TEST(CheckpointSummary, SortsTensorsIntoParts) {
  const Result<Checkpoint> tiny =
      Checkpoint::open(std::filesystem::path(GEM8_TEST_DATA) / "golden/models/tiny-31b");
  ASSERT_TRUE(tiny);
  const CheckpointSummary summary = summarise(*tiny);
  // 12 layers: q, k, o and, but on the two full ones, v; three projections; seven norms and
  // scalars. and the ends.
  EXPECT_EQ(summary.parts.at(ModelPart::kAttention).n_tensors, 12u * 3 + 10);
  EXPECT_EQ(summary.parts.at(ModelPart::kMlp).n_tensors, 36u);
  EXPECT_EQ(summary.parts.at(ModelPart::kNorms).n_tensors, 12u * 7 + 1);
  EXPECT_EQ(summary.parts.at(ModelPart::kEmbeddings).n_tensors, 1u);
  EXPECT_EQ(summary.parts.contains(ModelPart::kOther), false);
  EXPECT_EQ(summary.all.n_tensors, 168u);
  EXPECT_EQ(summary.all.bytes, 878200u);
  EXPECT_EQ(summary.n_parameters, 878200u / 2);
  EXPECT_EQ(summary.dtypes.at(DType::kBF16).bytes, 878200u);
  EXPECT_TRUE(summary.scales.empty());
  EXPECT_EQ(summary.uncalibrated_experts, std::nullopt);
  EXPECT_EQ(format_name(*tiny), "bf16");
}

TEST(CheckpointSummary, NamesOfParts) {
  const testing::TemporaryFolder folder;
  const Checkpoint checkpoint =
      make(folder, kStatic, {{"model.language_model.embed_tokens.weight", DType::kU8, {1}, {}}});
  const std::pair<std::string, ModelPart> cases[] = {
      {kLayer + "experts.3.gate_proj.weight", ModelPart::kExperts},
      {kLayer + "moe.experts.3.gate_proj.weight", ModelPart::kExperts},
      {kLayer + "experts.gate_up_proj", ModelPart::kExperts},
      {kLayer + "experts.3.gate_proj.input_scale", ModelPart::kScales},
      {kLayer + "router.proj.weight", ModelPart::kRouter},
      {kLayer + "router.scale", ModelPart::kRouter},
      {kLayer + "router.per_expert_scale", ModelPart::kRouter},
      {kLayer + "router.proj.weight_scale", ModelPart::kScales},
      {kLayer + "self_attn.q_proj.weight", ModelPart::kAttention},
      {kLayer + "self_attn.q_norm.weight", ModelPart::kNorms},
      {kLayer + "self_attn.k_scale", ModelPart::kScales},
      {kLayer + "post_feedforward_layernorm_1.weight", ModelPart::kNorms},
      {kLayer + "layer_scalar", ModelPart::kNorms},
      {kLayer + "mlp.up_proj.weight", ModelPart::kMlp},
      {kLayer + "per_layer_input_gate.weight", ModelPart::kPerLayer},
      {"model.language_model.norm.weight", ModelPart::kNorms},
      {"model.language_model.embed_tokens_per_layer.weight", ModelPart::kEmbeddings},
      {"model.language_model.per_layer_model_projection.weight", ModelPart::kPerLayer},
      {"lm_head.weight", ModelPart::kEmbeddings},
      {"model.vision_tower.encoder.layers.0.self_attn.q_proj.linear.weight", ModelPart::kVision},
      {"model.embed_vision.embedding_projection.weight", ModelPart::kVision},
      {"model.audio_tower.layers.0.mlp.x", ModelPart::kAudio},
      {"stray", ModelPart::kOther},
  };
  for (const auto& [name, part] : cases) EXPECT_EQ(part_of(checkpoint, name), part) << name;
}

TEST(CheckpointSummary, ScalesAndUncalibratedExperts) {
  const testing::TemporaryFolder folder;
  std::vector<Spec> specs = {{"model.language_model.embed_tokens.weight", DType::kU8, {1}, {}}};
  const float inputs[] = {0.5f, 1.0f / 28.0f, 0.25f, 0.0f};  // of experts 0 to 3; the last has none
  for (int e = 0; e < 4; ++e) {
    const std::string module = kLayer + "experts." + std::to_string(e) + ".up_proj.";
    specs.push_back({module + "weight", DType::kF8E4M3, {1, 2}, {}});
    specs.push_back({module + "weight_scale",
                     DType::kF32,
                     {},
                     {e == 2 ? -1.0f : 1.0f + static_cast<float>(e)}});
    if (e < 3) specs.push_back({module + "input_scale", DType::kF32, {1}, {inputs[e]}});
  }
  const Checkpoint checkpoint = make(folder, kStatic, specs);
  const CheckpointSummary summary = summarise(checkpoint);
  ASSERT_EQ(summary.scales.size(), 2u);
  EXPECT_EQ(summary.scales[0].kind, "input_scale");
  EXPECT_EQ(summary.scales[0].n_values, 3u);
  EXPECT_EQ(summary.scales[0].median, 0.25);
  EXPECT_EQ(summary.scales[0].max, 0.5);
  EXPECT_EQ(summary.scales[1].kind, "weight_scale");
  EXPECT_EQ(summary.scales[1].n_bad, 1u);
  EXPECT_EQ(summary.scales[1].min, 1.0);
  EXPECT_EQ(summary.scales[1].median, 2.0);
  EXPECT_EQ(summary.scales[1].max, 4.0);
  ASSERT_TRUE(summary.uncalibrated_experts);
  EXPECT_THAT(*summary.uncalibrated_experts, ElementsAre(ExpertId{0, 1}, ExpertId{0, 3}));
  EXPECT_EQ(format_name(checkpoint), "fp8 static");
  EXPECT_EQ(summary.n_parameters, 1u + 4 * 2);

  const Json json = summary_json(checkpoint, summary, true);
  EXPECT_EQ(json.find("tensor_list")->as_array().size(), specs.size());
  EXPECT_EQ(json.find("experts_never_calibrated")->as_array().size(), 2u);
  EXPECT_EQ(json.find("parts")->find("experts")->find("bytes")->as_int(), 8);
  EXPECT_EQ(*json.find("quantization")->find("loadable"), Json(true));
  EXPECT_TRUE(parse_json(to_text(json)));
  const std::string text = summary_text(checkpoint, summary, false);
  EXPECT_THAT(text, HasSubstr("experts never calibrated: 2 (layer 0 expert 1, layer 0 expert 3)"));
  EXPECT_THAT(text, HasSubstr("1 not positive and finite"));
}

TEST(CheckpointSummary, AnEmptyCheckpointIsSummarisedToo) {
  const testing::TemporaryFolder folder;
  const Checkpoint checkpoint = make(folder, R"({"model_type":"gemma4","text_config":{}})", {});
  const CheckpointSummary summary = summarise(checkpoint);
  EXPECT_EQ(summary.all.n_tensors, 0u);
  EXPECT_EQ(format_name(checkpoint), "empty");
  EXPECT_THAT(summary_text(checkpoint, summary, true), HasSubstr("0 B in 0 tensors"));
}

}  // namespace
}  // namespace gem8
