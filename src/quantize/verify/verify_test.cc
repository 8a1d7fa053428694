#include "quantize/verify/verify.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "formats/safetensors_writer.h"
#include "foundation/mapped_file.h"
#include "quantize/verify/rules.h"
#include "tests/support/broken_checkpoint.h"
#include "tests/support/golden_checkpoint.h"
#include "tests/support/temporary_folder.h"

namespace gem8::verify {
namespace {

namespace fs = std::filesystem;

using testing::open_checkpoint;
using testing::TemporaryFolder;
const auto golden = testing::golden_path;

std::string describe(const Report& report) {
  return to_text(report);
}

struct Recipe {
  std::string name;
  std::string base;
  std::set<int> rules;
  Severity severity = Severity::kError;
  Json edits;
};

void PrintTo(const Recipe& recipe, std::ostream* out) {
  *out << recipe.name;
}

std::vector<Recipe> recipes() {
  const auto text = read_text_file(GEM8_TEST_DATA "/golden/quant/broken.json");
  const auto table = text ? parse_json(*text) : Result<Json>(std::unexpected(text.error()));
  std::vector<Recipe> result;
  if (!table) return result;
  for (const JsonMember& member : table->as_object()) {
    Recipe recipe{.name = member.key, .base = member.value.find("base")->as_string()};
    for (const Json& rule : member.value.find("rules")->as_array()) {
      recipe.rules.insert(std::stoi(rule.as_string().substr(2)));
    }
    recipe.severity =
        member.value.find("severity")->as_string() == "E" ? Severity::kError : Severity::kWarning;
    recipe.edits = *member.value.find("edits");
    result.push_back(std::move(recipe));
  }
  return result;
}

class Broken : public ::testing::TestWithParam<Recipe> {};

/// The files beside the weights that the recipes about missing files delete; the small models have
/// none.
constexpr std::string_view kCompanions[] = {"chat_template.jinja", "generation_config.json",
                                            "processor_config.json", "tokenizer.json",
                                            "tokenizer_config.json"};

/// The checkpoint a recipe breaks. Where the one it names does not ship: tiny-26b-fp8 with
/// companions.
testing::BrokenCheckpoint base_of(const Recipe& recipe) {
  if (const auto named = golden("quant/" + recipe.base)) return testing::BrokenCheckpoint(*named);
  testing::BrokenCheckpoint base(*golden("quant/tiny-26b-fp8"));
  for (const std::string_view file : kCompanions) {
    std::string text = "{}";  // says nothing, and can be read; a tokenizer has to have a vocabulary
    if (file == "tokenizer.json")
      text = *read_text_file(fs::path(GEM8_SOURCE_DIR) / "models" / "demo" / file);
    base.apply(Json::object({{"op", "file_text"}, {"file", file}, {"text", text}}));
  }
  return base;
}

/// What the checkpoint was made from. Where that does not ship: the checkpoint dequantised to bf16
/// into `folder`, which differs from the true source by less than the rounding the rules allow for.
std::shared_ptr<const Checkpoint> source_of(const Recipe& recipe, const fs::path& folder) {
  const std::string name = recipe.base.substr(0, recipe.base.size() - 4);
  auto source = golden("quant/" + name);
  if (!source) source = golden("models/" + name);
  if (source) return open_checkpoint(*source);
  testing::BrokenCheckpoint made = base_of(recipe);
  made.apply(Json::object({{"op", "dequantise"},
                           {"tensor", "model.language_model.layers.*_proj.weight"},
                           {"keep_scales", false}}));
  made.apply(Json::object({{"op", "config_delete"}, {"path", "quantization_config"}}));
  made.write(folder);
  return open_checkpoint(folder);
}

TEST_P(Broken, IsCaughtByTheNamedRules) {
  const Recipe& recipe = GetParam();
  testing::BrokenCheckpoint checkpoint = base_of(recipe);
  for (const Json& edit : recipe.edits.as_array()) checkpoint.apply(edit);
  const TemporaryFolder folder;
  checkpoint.write(folder.path());
  const TemporaryFolder source_folder;
  const auto source = source_of(recipe, source_folder.path());
  ASSERT_NE(source, nullptr);

  ThreadPool pool(2);
  const auto report = verify_checkpoint(folder.path(), {.source = source}, pool);
  ASSERT_TRUE(report) << report.error().text();
  std::set<int> found;
  for (const Finding& finding : report->findings) {
    if (finding.severity != Severity::kNote) found.insert(finding.rule);
  }
  for (const int rule : recipe.rules) {
    EXPECT_TRUE(found.contains(rule))
        << fmt::format("V-{:02} did not fire\n", rule) << describe(*report);
  }
  const bool has_error = report->count(Severity::kError) > 0;
  EXPECT_EQ(has_error, recipe.severity == Severity::kError) << describe(*report);
  bool named_at_severity = false;
  for (const Finding& finding : report->findings) {
    named_at_severity |= recipe.rules.contains(finding.rule) && finding.severity == recipe.severity;
  }
  EXPECT_TRUE(named_at_severity) << describe(*report);
}

INSTANTIATE_TEST_SUITE_P(All, Broken, ::testing::ValuesIn(recipes()), [](const auto& tested) {
  std::string name = tested.param.name;
  for (char& c : name) {
    if (c == '-') c = '_';
  }
  return name;
});

TEST(Recipes, AreAllThere) {
  EXPECT_EQ(recipes().size(), 136u);
}

struct Intact {
  std::string name;
  std::set<int> allowed;
  std::size_t other_than_files;  ///< findings that are not V-37
};

class IntactFile : public ::testing::TestWithParam<Intact> {};

TEST_P(IntactFile, HasNoOtherFinding) {
  const Intact& intact = GetParam();
  const auto dir = golden("quant/" + intact.name + "-fp8");
  if (!dir) GTEST_SKIP() << intact.name << "-fp8 is not among the fixtures here";
  const TemporaryFolder folder;
  const auto source = source_of({.base = intact.name + "-fp8"}, folder.path());
  ASSERT_NE(source, nullptr);
  ThreadPool pool(2);
  for (const bool with_source : {false, true}) {
    const auto report = verify_checkpoint(*dir, {.source = with_source ? source : nullptr}, pool);
    ASSERT_TRUE(report) << report.error().text();
    std::size_t others = 0;
    for (const Finding& finding : report->findings) {
      EXPECT_TRUE(intact.allowed.contains(finding.rule)) << describe(*report);
      EXPECT_NE(finding.severity, Severity::kError);
      others += finding.rule != 37;
    }
    EXPECT_EQ(others, intact.other_than_files) << describe(*report);
  }
}

INSTANTIATE_TEST_SUITE_P(All, IntactFile,
                         ::testing::Values(Intact{"tiny-26b", {37}, 0}, Intact{"tiny-31b", {37}, 0},
                                           Intact{"corners-26b", {12}, 1}),
                         [](const auto& tested) {
                           return tested.param.name == "tiny-26b"   ? "tiny_26b"
                                  : tested.param.name == "tiny-31b" ? "tiny_31b"
                                                                    : "corners_26b";
                         });

TEST(OldLoader, IsAnErrorForItsDateOnly) {
  const auto dir = golden("quant/tiny-26b-fp8");
  ASSERT_TRUE(dir);
  ThreadPool pool(1);
  const auto old = verify_checkpoint(*dir, {.vllm_date = "2026-04-05"}, pool);
  ASSERT_TRUE(old);
  EXPECT_EQ(std::ranges::count(old->findings, 41, &Finding::rule), 1);
  const auto recent = verify_checkpoint(*dir, {.vllm_date = "2026-04-08"}, pool);
  ASSERT_TRUE(recent);
  EXPECT_EQ(std::ranges::count(recent->findings, 41, &Finding::rule), 0);
}

TEST(Rules, AreNumberedInOrder) {
  int next = 1;
  for (const Rule& rule : rules()) EXPECT_EQ(rule.id, next++);
}

TEST(ReportJson, HasTheDocumentedMembers) {
  Report report{.checkpoint = "x", .rules_checked = 41};
  report.findings.push_back({17, Severity::kWarning, "a.weight", "", "why"});
  EXPECT_EQ(
      gem8::to_text(to_json(report)),
      R"({"checkpoint":"x","rules_checked":41,"errors":0,"warnings":1,"findings":[)"
      R"({"rule":"V-17","severity":"warning","tensor":"a.weight","file":null,"message":"why"}]})");
}

TEST(Folder, MissingOrForeignIsAnErrorNotAFinding) {
  ThreadPool pool(1);
  EXPECT_EQ(verify_checkpoint("/nonexistent", {}, pool).error().code, Code::kNotFound);
  const TemporaryFolder folder;
  EXPECT_EQ(verify_checkpoint(folder.path(), {}, pool).error().code, Code::kNotFound);
}

// Without the source at hand, a tensor that no other rule asks for.
TEST(Folder, LacksNothingThatTheEngineReads) {
  const auto dir = golden("quant/tiny-26b-fp8");
  ASSERT_TRUE(dir);
  const auto whole = Checkpoint::open(*dir);
  ASSERT_TRUE(whole);
  ThreadPool pool(1);
  for (const char* name : {"norm.weight", "layers.1.router.scale", "layers.0.layer_scalar"}) {
    const TemporaryFolder folder;
    fs::copy_file(*dir / "config.json", folder.path() / "config.json");
    const std::string dropped = whole->text_prefix() + name;
    std::vector<TensorSpec> specs;
    for (const CheckpointTensor& tensor : whole->tensors()) {
      if (tensor.info->name != dropped)
        specs.push_back({tensor.info->name, tensor.info->dtype, tensor.info->shape});
    }
    sort_for_alignment(specs);
    auto writer = SafetensorsWriter::create(folder.path() / kSingleFileName, specs);
    ASSERT_TRUE(writer);
    for (const TensorSpec& spec : specs)
      ASSERT_TRUE(writer->append(spec.name, whole->find(spec.name)->bytes));
    ASSERT_TRUE(writer->finish());
    const auto report = verify_checkpoint(folder.path(), {}, pool);
    ASSERT_TRUE(report) << report.error().text();
    const auto missing = std::ranges::find(report->findings, 34, &Finding::rule);
    ASSERT_NE(missing, report->findings.end()) << name << describe(*report);
    EXPECT_EQ(missing->severity, Severity::kError);
    EXPECT_NE(missing->message.find(dropped), std::string::npos) << missing->message;
  }
}

TEST(Folder, CompanionsCanBeRead) {
  const auto dir = golden("quant/tiny-26b-fp8");
  ASSERT_TRUE(dir);
  const TemporaryFolder folder;
  fs::copy(*dir, folder.path(), fs::copy_options::recursive);
  folder.write("generation_config.json", "{bad");
  ThreadPool pool(1);
  const auto report = verify_checkpoint(folder.path(), {}, pool);
  ASSERT_TRUE(report);
  const auto broken = std::ranges::find(report->findings, Severity::kError, &Finding::severity);
  ASSERT_NE(broken, report->findings.end()) << describe(*report);
  EXPECT_EQ(broken->rule, 37);
  EXPECT_EQ(broken->file, "generation_config.json");
}

TEST(Folder, UnquantisedCheckpointHasANoteAndNoError) {
  const auto dir = golden("models/tiny-26b");
  if (!dir) GTEST_SKIP() << "models/tiny-26b is not among the fixtures here";
  ThreadPool pool(1);
  const auto report = verify_checkpoint(*dir, {}, pool);
  ASSERT_TRUE(report);
  EXPECT_EQ(report->count(Severity::kError), 0u) << describe(*report);
  EXPECT_EQ(report->count(Severity::kNote), 1u) << describe(*report);
}

}  // namespace
}  // namespace gem8::verify
