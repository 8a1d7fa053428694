#include "formats/checkpoint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "formats/safetensors_writer.h"
#include "foundation/mapped_file.h"
#include "tests/support/shared_folder.h"
#include "tests/support/temporary_folder.h"

namespace gem8 {
namespace {

using ::testing::HasSubstr;

std::filesystem::path model(std::string_view name) {
  return std::filesystem::path(GEM8_TEST_DATA) / "golden" / "models" / name;
}

/// A folder with the smallest config and shards of one-element tensors.
class Folder : public testing::TemporaryFolder {
 public:
  Folder() { write("config.json", R"({"model_type":"gemma4","text_config":{}})"); }

  void shard(std::string_view file, const std::vector<std::string>& names) const {
    std::vector<TensorSpec> specs;
    for (const std::string& name : names) specs.push_back({name, DType::kU8, {1}});
    Result<SafetensorsWriter> writer = SafetensorsWriter::create(path() / file, specs);
    ASSERT_TRUE(writer) << writer.error().text();
    const std::byte one{1};
    for (const std::string& name : names) ASSERT_TRUE(writer->append(name, {&one, 1}));
    ASSERT_TRUE(writer->finish());
  }
  void index(std::map<std::string, std::string> map) const {
    ASSERT_TRUE(write_shard_index(path(), {.weight_map = std::move(map)}));
  }
};

std::string error_of(const Folder& folder, Code code) {
  const Result<Checkpoint> checkpoint = Checkpoint::open(folder.path());
  EXPECT_FALSE(checkpoint);
  if (checkpoint) return "";
  EXPECT_EQ(checkpoint.error().code, code) << checkpoint.error().text();
  return checkpoint.error().text();
}

TEST(Checkpoint, OpensShippedModels) {
  const Result<Checkpoint> checkpoint = Checkpoint::open(model("tiny-31b"));
  ASSERT_TRUE(checkpoint) << checkpoint.error().text();
  EXPECT_EQ(checkpoint->text_prefix(), "model.language_model.");
  const TensorInfo* q = checkpoint->find_text("layers.5.self_attn.q_proj.weight");
  ASSERT_NE(q, nullptr);
  EXPECT_EQ(q->name, "model.language_model.layers.5.self_attn.q_proj.weight");
  EXPECT_EQ(q->dtype, DType::kBF16);
  EXPECT_THAT(q->shape, ::testing::ElementsAre(8 * 48, 48));
  EXPECT_EQ(checkpoint->find_text("layers.5.self_attn.v_proj.weight"), nullptr);
  EXPECT_NE(checkpoint->find_text("layers.4.self_attn.v_proj.weight"), nullptr);
  EXPECT_EQ(checkpoint->find_text("lm_head.weight"), nullptr);
  EXPECT_EQ(checkpoint->find("nothing"), nullptr);
  EXPECT_EQ(checkpoint->canonical_text_name("model.language_model.norm.weight"), "norm.weight");
  EXPECT_TRUE(std::ranges::is_sorted(
      checkpoint->tensors(), {}, [](const CheckpointTensor& tensor) { return tensor.info->name; }));
}

TEST(Checkpoint, OpensEveryReferenceCheckpoint) {
  const auto shared = testing::shared_folder();
  if (!shared) GTEST_SKIP() << "the reference data folder is not on this machine";
  std::size_t opened = 0;
  for (const std::string_view group : {"models", "quant", "vision"}) {
    for (const auto& entry : std::filesystem::directory_iterator(*shared / "golden" / group)) {
      if (!std::filesystem::exists(entry.path() / "config.json")) continue;
      const Result<Checkpoint> checkpoint = Checkpoint::open(entry.path());
      ASSERT_TRUE(checkpoint) << checkpoint.error().text();
      const TextConfig& text = checkpoint->config().text;
      const bool text_only = entry.path().filename() == "text-only";
      EXPECT_EQ(checkpoint->text_prefix(), text_only ? "model." : "model.language_model.");
      // The resolved geometry of every layer against the stored projections.
      for (std::size_t i = 0; i < text.layers.size(); ++i) {
        const LayerConfig& layer = text.layers[i];
        const std::string prefix = fmt::format("layers.{}.", i);
        SCOPED_TRACE(entry.path().string() + " " + prefix);
        const auto rows = [&](std::string_view name) {
          const TensorInfo* info = checkpoint->find_text(prefix + std::string(name) + ".weight");
          return info == nullptr ? 0 : info->shape.front();
        };
        EXPECT_EQ(rows("self_attn.q_proj"), text.n_heads * layer.head_dim);
        EXPECT_EQ(rows("mlp.gate_proj"), layer.mlp_width);
        if (!layer.kv_shared) {
          EXPECT_EQ(rows("self_attn.k_proj"), layer.n_kv_heads * layer.head_dim);
          EXPECT_EQ(rows("self_attn.v_proj"), layer.has_v ? layer.n_kv_heads * layer.head_dim : 0);
        }
        EXPECT_EQ(rows("router.proj"), text.n_experts);
        EXPECT_EQ(rows("per_layer_input_gate"), text.per_layer_hidden);
      }
      EXPECT_EQ(checkpoint->find_multimodal("embed_vision.embedding_projection.weight") != nullptr,
                checkpoint->config().vision.has_value());
      ++opened;
    }
  }
  EXPECT_EQ(opened, 14u);  // eight models, four of quant, two of vision
}

TEST(Checkpoint, PrefixesAreNormalised) {
  const std::string_view prefixes[] = {"model.language_model.", "model.", "language_model.model.",
                                       "language_model.", ""};
  for (const std::string_view prefix : prefixes) {
    SCOPED_TRACE(prefix);
    const Folder folder;
    const std::string p(prefix);
    folder.shard(kSingleFileName,
                 {p + "embed_tokens.weight", p + "layers.0.experts.3.down_proj.weight",
                  p + "layers.1.moe.experts.3.down_proj.weight",
                  "model.vision_tower.encoder.layers.0.mlp.up_proj.linear.weight"});
    const Result<Checkpoint> checkpoint = Checkpoint::open(folder.path());
    ASSERT_TRUE(checkpoint) << checkpoint.error().text();
    EXPECT_EQ(checkpoint->text_prefix(), prefix);
    EXPECT_NE(checkpoint->find_text("layers.0.experts.3.down_proj.weight"), nullptr);
    EXPECT_NE(checkpoint->find_text("layers.1.experts.3.down_proj.weight"), nullptr);
    EXPECT_EQ(checkpoint->find_text("layers.2.experts.3.down_proj.weight"), nullptr);
    EXPECT_EQ(checkpoint->canonical_text_name(p + "layers.1.moe.experts.3.down_proj.weight"),
              "layers.1.experts.3.down_proj.weight");
    EXPECT_EQ(checkpoint->canonical_text_name(
                  "model.vision_tower.encoder.layers.0.mlp.up_proj.linear.weight"),
              std::nullopt);
    EXPECT_NE(
        checkpoint->find_multimodal("vision_tower.encoder.layers.0.mlp.up_proj.linear.weight"),
        nullptr);
  }
}

TEST(Checkpoint, HeadAndBareMultimodalNames) {
  const Folder folder;
  folder.shard(kSingleFileName,
               {"language_model.model.embed_tokens.weight", "language_model.lm_head.weight",
                "embed_vision.embedding_projection.weight"});
  const Result<Checkpoint> checkpoint = Checkpoint::open(folder.path());
  ASSERT_TRUE(checkpoint);
  EXPECT_NE(checkpoint->find_text("lm_head.weight"), nullptr);
  EXPECT_NE(checkpoint->find_multimodal("embed_vision.embedding_projection.weight"), nullptr);
  EXPECT_EQ(checkpoint->canonical_text_name("language_model.lm_head.weight"), "lm_head.weight");
}

TEST(Checkpoint, IndexAndShardsAgree) {
  const Folder folder;
  folder.shard("a", {"x"});
  folder.shard("b", {"y", "z"});
  folder.index({{"x", "a"}, {"y", "b"}, {"z", "b"}});
  const Result<Checkpoint> checkpoint = Checkpoint::open(folder.path());
  ASSERT_TRUE(checkpoint) << checkpoint.error().text();
  EXPECT_EQ(checkpoint->tensors().size(), 3u);
  EXPECT_EQ(checkpoint->tensors()[2].info->name, "z");
  EXPECT_EQ(checkpoint->shard_names()[checkpoint->tensors()[2].shard], "b");
  EXPECT_EQ(checkpoint->tensor_bytes(), 3u);

  folder.index({{"x", "a"}, {"y", "b"}});
  EXPECT_THAT(error_of(folder, Code::kCorrupt), HasSubstr("tensor 'z' of shard b is not in"));
  folder.index({{"x", "a"}, {"y", "a"}, {"z", "b"}});
  EXPECT_THAT(error_of(folder, Code::kCorrupt), HasSubstr("tensor 'y' is in shard b, but"));
  folder.index({{"x", "a"}, {"y", "b"}, {"z", "b"}, {"w", "a"}});
  EXPECT_THAT(error_of(folder, Code::kCorrupt), HasSubstr("tensor 'w' is listed"));
  folder.index({{"x", "a"}, {"y", "b"}, {"z", "b"}, {"w", "c"}});
  EXPECT_THAT(error_of(folder, Code::kNotFound), HasSubstr("shard 'c' is listed"));
  folder.shard("a", {"x", "y"});
  folder.index({{"x", "a"}, {"y", "b"}, {"z", "b"}});
  EXPECT_THAT(error_of(folder, Code::kCorrupt), HasSubstr("tensor 'y' is in two shards: a and b"));
  folder.write(kIndexFileName, R"({"weight_map":{"x":"../a"}})");
  EXPECT_THAT(error_of(folder, Code::kCorrupt), HasSubstr("'../a'"));
}

TEST(Checkpoint, MissingParts) {
  const Folder folder;
  EXPECT_THAT(error_of(folder, Code::kNotFound), HasSubstr(kSingleFileName));
  folder.write(kSingleFileName, "short");
  EXPECT_THAT(error_of(folder, Code::kCorrupt), HasSubstr("5 bytes"));
  std::filesystem::remove(folder.path() / "config.json");
  EXPECT_THAT(error_of(folder, Code::kNotFound), HasSubstr("config.json"));
}

TEST(Checkpoint, ErrorsAndExpertsNameWhatTheyAreIn) {
  const Folder folder;
  folder.shard(kSingleFileName, {"model.language_model.embed_tokens.weight",
                                 "model.language_model.layers.1.router.proj.weight"});
  const Result<Checkpoint> checkpoint = Checkpoint::open(folder.path());
  ASSERT_TRUE(checkpoint) << checkpoint.error().text();
  EXPECT_TRUE(checkpoint->check_no_experts(0));
  const Status experts = checkpoint->check_no_experts(1);
  ASSERT_FALSE(experts);
  EXPECT_EQ(experts.error().code, Code::kCorrupt);
  EXPECT_THAT(experts.error().text(), HasSubstr("layers.1.router.proj.weight"));
  EXPECT_EQ(checkpoint->refuse(experts.error()).error().text(),
            folder.path().string() + ": " + experts.error().text());
}

TEST(Checkpoint, MovingKeepsTensorsReachable) {
  Result<Checkpoint> opened = Checkpoint::open(model("tiny-12b"));
  ASSERT_TRUE(opened);
  const TensorInfo* before = opened->find_text("norm.weight");
  const Checkpoint moved = *std::move(opened);
  EXPECT_EQ(moved.find_text("norm.weight"), before);
  EXPECT_EQ(before->shape.front(), moved.config().text.hidden);
}

}  // namespace
}  // namespace gem8
