#include "quantize/quantizer.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <algorithm>
#include <cmath>
#include <csignal>
#include <cstring>
#include <fstream>

#include "backend/device.h"
#include "formats/model_config.h"
#include "formats/shard_index.h"
#include "foundation/mapped_file.h"
#include "kernels/ops.h"
#include "tests/support/conversion_fixture.h"
#include "tests/support/golden_checkpoint.h"
#include "tests/support/temporary_folder.h"

namespace gem8 {
namespace {

namespace fs = std::filesystem;

using testing::convert;
using testing::Golden;
using testing::golden_path;
using testing::mixture;

float scalar(const TensorInfo& info) {
  float value = 0.0f;
  std::memcpy(&value, info.bytes.data(), sizeof value);
  return value;
}

class GoldenConversion : public ::testing::TestWithParam<std::string> {};

TEST_P(GoldenConversion, EqualsTheReference) {
  const auto golden = Golden::load(GetParam());
  if (!golden) GTEST_SKIP() << GetParam() << " is not among the fixtures here";
  const testing::TemporaryFolder folder;
  QuantizeOptions options;
  options.conversion.shard_bytes = 300'000;  // several shards
  const auto converted = convert(*golden, folder.path() / "out", options);
  ASSERT_TRUE(converted) << converted.error().text();

  const auto ours = Checkpoint::open(folder.path() / "out");
  const auto theirs = Checkpoint::open(golden->expected);
  ASSERT_TRUE(ours) << ours.error().text();
  ASSERT_TRUE(theirs) << theirs.error().text();
  ASSERT_EQ(ours->tensors().size(), theirs->tensors().size());
  for (const CheckpointTensor& tensor : theirs->tensors()) {
    const TensorInfo* const mine = ours->find(tensor.info->name);
    ASSERT_NE(mine, nullptr) << tensor.info->name;
    EXPECT_EQ(mine->dtype, tensor.info->dtype) << tensor.info->name;
    EXPECT_EQ(mine->shape, tensor.info->shape) << tensor.info->name;
    if (tensor.info->name.ends_with(".input_scale")) {
      const float want = scalar(*tensor.info);
      EXPECT_NEAR(scalar(*mine), want, 1e-5 * want) << tensor.info->name;
    } else {
      EXPECT_TRUE(std::ranges::equal(mine->bytes, tensor.info->bytes)) << tensor.info->name;
    }
  }
  EXPECT_EQ(ours->config().quantization->raw, theirs->config().quantization->raw);

  const auto our_index = read_shard_index(folder.path() / "out");
  const auto their_index = read_shard_index(golden->expected);
  EXPECT_EQ((*our_index)->total_size, (*their_index)->total_size);
  EXPECT_GT(ours->shard_names().size(), 1u);

  const Json::Array& layers = golden->calibration.find("layers")->as_array();
  ASSERT_EQ(converted->report.layers.size(), layers.size());
  for (std::size_t i = 0; i < layers.size(); ++i) {
    const LayerStatistics& mine = converted->report.layers[i];
    for (std::size_t site = 0; site < kInputSites; ++site) {
      const Json* const want =
          layers[i].find("amax")->find(input_site_name(static_cast<InputSite>(site)));
      if (want == nullptr) continue;
      EXPECT_NEAR(mine.amax[site], want->as_double(), 1e-5 * want->as_double())
          << "layer " << i << " site " << site;
    }
    const Json::Array& tokens = layers[i].find("tokens_per_expert")->as_array();
    ASSERT_EQ(mine.tokens_per_expert.size(), tokens.size());
    for (std::size_t e = 0; e < tokens.size(); ++e) {
      EXPECT_EQ(mine.tokens_per_expert[e], tokens[e].as_int()) << "layer " << i << " expert " << e;
      const Json& down = layers[i].find("moe_down_in_per_expert")->as_array()[e];
      if (down.is_null()) continue;
      EXPECT_NEAR(mine.expert_down_amax[e], down.as_double(), 1e-5 * down.as_double());
    }
  }
  EXPECT_FALSE(fs::exists(folder.path() / "out.partial"));
}

INSTANTIATE_TEST_SUITE_P(All, GoldenConversion,
                         ::testing::Values("tiny-26b", "tiny-31b", "corners-26b"),
                         [](const auto& tested) {
                           std::string name = tested.param;
                           std::ranges::replace(name, '-', '_');
                           return name;
                         });

// Every other member of the family: what must not change has not, and the verifier is content.
class FamilyConversion : public ::testing::TestWithParam<std::string> {};

TEST_P(FamilyConversion, KeepsWhatIsNotLinearAndVerifies) {
  auto dir = golden_path("models/" + GetParam());
  if (GetParam() == "demo") dir = fs::path(GEM8_SOURCE_DIR) / "models" / "demo";
  if (!dir) GTEST_SKIP() << GetParam() << " is not among the fixtures here";
  Golden golden{.name = GetParam()};
  golden.source = testing::open_checkpoint(*dir);
  if (golden.source == nullptr) return;
  golden.samples = {{.tokens = {TokenId{2}, TokenId{330}, TokenId{371}, TokenId{496}}},
                    {.tokens = {TokenId{2}, TokenId{404}}}};
  const testing::TemporaryFolder folder;
  const auto converted = convert(golden, folder.path() / "out");
  ASSERT_TRUE(converted) << converted.error().text();
  for (const verify::Finding& finding : converted->report.verification.findings) {
    EXPECT_TRUE(finding.rule == 37 || finding.rule == 24 || finding.rule == 12)
        << finding.rule << " " << finding.tensor << ": " << finding.message;
  }
  const auto ours = Checkpoint::open(folder.path() / "out");
  ASSERT_TRUE(ours) << ours.error().text();
  for (const CheckpointTensor& tensor : golden.source->tensors()) {
    const std::string& name = tensor.info->name;
    const bool vision = name.find("vision") != std::string::npos;
    if (!vision && name.find("router") == std::string::npos &&
        name.find("norm") == std::string::npos && name.find("embed") == std::string::npos &&
        name.find("per_layer") == std::string::npos) {
      continue;
    }
    const TensorInfo* const mine = ours->find(name);
    ASSERT_NE(mine, nullptr) << name;
    EXPECT_EQ(mine->dtype, tensor.info->dtype) << name;
    EXPECT_TRUE(std::ranges::equal(mine->bytes, tensor.info->bytes)) << name;
  }
}

INSTANTIATE_TEST_SUITE_P(All, FamilyConversion,
                         ::testing::Values("tiny-26b", "tiny-26b-sharded", "tiny-31b", "tiny-12b",
                                           "tiny-e2b", "tiny-e4b", "text-only", "wide-26b", "demo"),
                         [](const auto& tested) {
                           std::string name = tested.param;
                           std::ranges::replace(name, '-', '_');
                           return name;
                         });

std::vector<std::string> file_contents(const fs::path& dir) {
  std::vector<std::string> result;
  for (const auto& entry : fs::directory_iterator(dir)) {
    result.push_back(entry.path().filename().string() + "\n" + *read_text_file(entry.path()));
  }
  std::ranges::sort(result);
  return result;
}

TEST(Quantize, DoesNotDependOnThreads) {
  const auto golden = mixture();
  if (!golden) GTEST_SKIP() << "no model with experts is here";
  const testing::TemporaryFolder folder;
  ASSERT_TRUE(convert(*golden, folder.path() / "one", {}, 1));
  ASSERT_TRUE(convert(*golden, folder.path() / "three", {}, 3));
  EXPECT_EQ(file_contents(folder.path() / "one"), file_contents(folder.path() / "three"));
}

TEST(Quantize, ContinuesAfterAnInterruption) {
  const auto golden = mixture();
  if (!golden) GTEST_SKIP() << "no model with experts is here";
  const testing::TemporaryFolder folder;
  QuantizeOptions options;
  options.conversion.shard_bytes = (*golden->source).tensor_bytes() / 6;
  ASSERT_TRUE(convert(*golden, folder.path() / "whole", options));
  std::string first;  // the first shard's name tells how many there are
  for (const auto& entry : fs::directory_iterator(folder.path() / "whole")) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with("model-00001-of-")) first = name;
  }

  // Cut off where the progress report says "calibrating layer 4": an exception stands for a killed
  // process.
  struct Killed {};
  QuantizeOptions interrupted = options;
  interrupted.progress = [](std::string_view stage, std::size_t done, std::size_t) {
    if (stage == "calibrating" && done == 4) throw Killed{};
  };
  EXPECT_THROW((void)convert(*golden, folder.path() / "cut", interrupted), Killed);
  EXPECT_FALSE(fs::exists(folder.path() / "cut"));
  ASSERT_TRUE(fs::exists(folder.path() / "cut.partial" / first));
  const auto first_shard = fs::last_write_time(folder.path() / "cut.partial" / first);

  const auto resumed = convert(*golden, folder.path() / "cut", options);
  ASSERT_TRUE(resumed) << resumed.error().text();
  EXPECT_EQ(resumed->report.resumed_layers, 4);
  EXPECT_EQ(fs::last_write_time(folder.path() / "cut" / first), first_shard);
  EXPECT_EQ(file_contents(folder.path() / "whole"), file_contents(folder.path() / "cut"));
}

TEST(Quantize, LeavesAnExistingCheckpointAlone) {
  const auto golden = Golden::load("tiny-31b");
  if (!golden) GTEST_SKIP() << "tiny-31b is not among the fixtures here";
  const testing::TemporaryFolder folder;
  const fs::path out = folder.path() / "out";
  ASSERT_TRUE(convert(*golden, out));
  const auto before = file_contents(out);

  const auto again = convert(*golden, out);
  ASSERT_TRUE(again) << again.error().text();
  EXPECT_TRUE(again->report.already_done);

  QuantizeOptions other;
  other.restart = true;
  other.conversion.scheme = Scheme::kDynamic;
  const auto refused = convert(*golden, out, other);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Code::kInvalidArgument);
  EXPECT_EQ(file_contents(out), before);
}

TEST(Quantize, RefusesAnotherRunsUnfinishedFolder) {
  const auto golden = Golden::load("tiny-31b");
  if (!golden) GTEST_SKIP() << "tiny-31b is not among the fixtures here";
  const testing::TemporaryFolder folder;
  const fs::path partial = folder.path() / "out.partial";
  fs::create_directories(partial);
  std::ofstream(partial / "letter.txt") << "mine";
  const auto in_the_way = convert(*golden, folder.path() / "out");
  ASSERT_FALSE(in_the_way);
  EXPECT_EQ(in_the_way.error().code, Code::kInvalidArgument);
  EXPECT_TRUE(fs::exists(partial / "letter.txt"));

  fs::remove(partial / "letter.txt");
  std::ofstream(partial / "gem8-unfinished.json") << R"({"fingerprint": "0", "layers": []})";
  const auto foreign = convert(*golden, folder.path() / "out");
  ASSERT_FALSE(foreign);
  EXPECT_EQ(foreign.error().code, Code::kInvalidArgument);

  QuantizeOptions options;
  options.restart = true;
  EXPECT_TRUE(convert(*golden, folder.path() / "out", options));
}

// A full disk, as far as a test may fill one: files end at a limit in the middle of a shard.
TEST(Quantize, AWriteThatFailsLeavesNoCheckpoint) {
  const auto golden = mixture();
  if (!golden) GTEST_SKIP() << "no model with experts is here";
  const testing::TemporaryFolder folder;
  const fs::path out = folder.path() / "out";
  rlimit limit{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &limit), 0);
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  const rlimit small{.rlim_cur = (*golden->source).tensor_bytes() / 4, .rlim_max = limit.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
  const auto failed = convert(*golden, out);
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &limit), 0);
  std::signal(SIGXFSZ, handler);
  ASSERT_FALSE(failed);
  EXPECT_FALSE(fs::exists(out));
  for (const auto& entry : fs::directory_iterator(folder.path() / "out.partial")) {
    EXPECT_NE(entry.path().extension(), ".safetensors");
    EXPECT_EQ(entry.path().string().find(".tmp-"), std::string::npos) << entry.path();
  }
  const auto again = convert(*golden, out);
  ASSERT_TRUE(again) << again.error().text();
  EXPECT_TRUE(Checkpoint::open(out));
}

TEST(Quantize, RemovesWhatAKilledRunWasWriting) {
  const auto golden = Golden::load("tiny-31b");
  if (!golden) GTEST_SKIP() << "tiny-31b is not among the fixtures here";
  const testing::TemporaryFolder folder;
  struct Killed {};
  QuantizeOptions options;
  options.progress = [](std::string_view stage, std::size_t done, std::size_t) {
    if (stage == "calibrating" && done == 1) throw Killed{};
  };
  EXPECT_THROW((void)convert(*golden, folder.path() / "out", options), Killed);
  folder.write("out.partial/model-00001-of-00001.safetensors.tmp-123", "half");
  ASSERT_TRUE(convert(*golden, folder.path() / "out"));
  EXPECT_FALSE(fs::exists(folder.path() / "out/model-00001-of-00001.safetensors.tmp-123"));
}

TEST(Quantize, OneProcessAtATime) {
  const auto golden = Golden::load("tiny-31b");
  if (!golden) GTEST_SKIP() << "tiny-31b is not among the fixtures here";
  const testing::TemporaryFolder folder;
  bool asked = false;
  QuantizeOptions options;
  options.progress = [&](std::string_view, std::size_t, std::size_t) {
    if (std::exchange(asked, true)) return;
    for (const bool restart : {false, true}) {
      QuantizeOptions second;
      second.restart = restart;
      const auto refused = convert(*golden, folder.path() / "out", second);
      ASSERT_FALSE(refused);
      EXPECT_EQ(refused.error().code, Code::kUnavailable);
    }
  };
  EXPECT_TRUE(convert(*golden, folder.path() / "out", options));
  EXPECT_TRUE(asked);
}

TEST(Quantize, MemoryThatIsTooLittleIsRefusedWithTheNumbers) {
  const auto golden = Golden::load("tiny-31b");
  if (!golden) GTEST_SKIP() << "tiny-31b is not among the fixtures here";
  const testing::TemporaryFolder folder;
  QuantizeOptions options;
  options.memory_bytes = 1 << 20;
  const auto refused = convert(*golden, folder.path() / "out", options);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Code::kInvalidArgument);
  EXPECT_NE(refused.error().text().find("--memory"), std::string::npos);
  EXPECT_TRUE(std::filesystem::is_empty(folder.path())) << "nothing to go on with later";
}

// Hidden states that leave memory as they are used are the same hidden states.
TEST(Calibrator, SpilledHiddenStatesChangeNothing) {
  const auto golden = mixture();
  if (!golden) GTEST_SKIP() << "no model with experts is here";
  ThreadPool pool(2);
  const auto device = make_cpu_device();
  const auto ops = make_cpu_ops(*device, pool, {});
  const auto model = Model::load(golden->source, **ops, {.max_batch_tokens = 64});
  ASSERT_TRUE(model) << model.error().text();
  std::vector<std::vector<LayerStatistics>> runs;
  for (const std::uint64_t bytes : {std::uint64_t{0}, std::uint64_t{1} << 30}) {
    const testing::TemporaryFolder folder;
    const auto calibrator =
        Calibrator::create(*golden->source, {model->get()}, golden->samples, folder.path(), bytes);
    ASSERT_TRUE(calibrator) << calibrator.error().text();
    ASSERT_TRUE((*calibrator)->start());
    auto& layers = runs.emplace_back();
    for (std::int64_t i = 0; i < (*model)->layers(); ++i) {
      layers.push_back(*(*calibrator)->next_layer());
    }
  }
  for (std::size_t i = 0; i < runs[0].size(); ++i) {
    EXPECT_EQ(runs[0][i].amax, runs[1][i].amax) << i;
    EXPECT_EQ(runs[0][i].tokens_per_expert, runs[1][i].tokens_per_expert) << i;
  }
}

TEST(Quantize, DynamicNeedsNoSamplesAndWritesNoInputScale) {
  auto golden = mixture();
  if (!golden) GTEST_SKIP() << "no model with experts is here";
  golden->samples.clear();
  const testing::TemporaryFolder folder;
  QuantizeOptions options;
  options.conversion.scheme = Scheme::kDynamic;
  const auto converted = convert(*golden, folder.path() / "out", options);
  ASSERT_TRUE(converted) << converted.error().text();
  const auto ours = Checkpoint::open(folder.path() / "out");
  ASSERT_TRUE(ours);
  EXPECT_EQ(ours->config().quantization->activations, ActivationScheme::kDynamic);
  for (const CheckpointTensor& tensor : ours->tensors()) {
    EXPECT_FALSE(tensor.info->name.ends_with(".input_scale"));
  }
}

TEST(Quantize, StaticWithoutSamplesIsRefused) {
  auto golden = Golden::load("tiny-31b");
  if (!golden) GTEST_SKIP() << "tiny-31b is not among the fixtures here";
  golden->samples.clear();
  const testing::TemporaryFolder folder;
  const auto refused = convert(*golden, folder.path() / "out");
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Code::kInvalidArgument);
}

struct IgnoreCase {
  std::string expression;
  bool accepted;
  std::vector<std::string> listed;
};

TEST(Ignore, KeepsWholeFusedGroupsOnly) {
  const auto golden = mixture();
  if (!golden) GTEST_SKIP() << "no model with experts is here";
  const std::string p = "model.language_model.layers.";
  const auto& layers = golden->source->config().text.layers;
  const auto full =
      std::ranges::find_if(layers, [](const LayerConfig& layer) { return !layer.has_v; });
  ASSERT_NE(full, layers.end());  // its v_proj is listed although it does not exist
  const std::string f = fmt::format("{}", full - layers.begin());
  const IgnoreCase cases[] = {
      {R"(layers\.0\.self_attn\.o_proj$)", true, {p + "0.self_attn.o_proj"}},
      {"layers\\." + f + "\\.self_attn\\.[qk]_proj",
       true,
       {p + f + ".self_attn.q_proj", p + f + ".self_attn.k_proj", p + f + ".self_attn.v_proj"}},
      {R"(layers\.1\.experts)", true, {p + "1.experts", p + "1.moe.experts"}},
      {R"(layers\.0\.self_attn\.[qk]_proj)", false, {}},
      {R"(gate)", false, {}},
      {R"(layers\.1\.experts\.7\.)", false, {}},
      {R"(layers\.1\.(mlp|experts)\..*down_proj)", false, {}},
      {R"(()", false, {}},
  };
  for (const IgnoreCase& test : cases) {
    ConversionOptions options;
    options.ignore = {test.expression};
    const auto plan = make_conversion_plan(*golden->source, options);
    ASSERT_EQ(plan.has_value(), test.accepted) << test.expression;
    if (!plan) {
      EXPECT_EQ(plan.error().code, Code::kInvalidArgument);
      continue;
    }
    EXPECT_EQ(plan->kept_by_request, test.listed) << test.expression;
    const testing::TemporaryFolder folder;
    QuantizeOptions run;
    run.conversion = options;
    const auto converted = convert(*golden, folder.path() / "out", run);
    ASSERT_TRUE(converted) << converted.error().text();
  }
}

TEST(Plan, RefusesAQuantisedSource) {
  const auto golden = Golden::load("tiny-31b");
  if (!golden) GTEST_SKIP() << "tiny-31b is not among the fixtures here";
  const auto quantised = Checkpoint::open(golden->expected);
  ASSERT_TRUE(quantised);
  const auto plan = make_conversion_plan(*quantised, {});
  ASSERT_FALSE(plan);
  EXPECT_EQ(plan.error().code, Code::kUnsupported);
}

}  // namespace
}  // namespace gem8
