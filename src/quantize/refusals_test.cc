// What a conversion refuses before it does any work, and what it takes for done.
#include <gtest/gtest.h>

#include "tests/support/conversion_fixture.h"
#include "tests/support/temporary_folder.h"

namespace gem8 {
namespace {

namespace fs = std::filesystem;

using testing::changed;
using testing::convert;
using testing::Golden;
using testing::mixture;

TEST(Quantize, NoticesThatTheSourceOfAFinishedCheckpointChanged) {
  const auto golden = mixture();
  if (!golden) GTEST_SKIP() << "no model with experts is here";
  const testing::TemporaryFolder folder;
  const fs::path out = folder.path() / "out";
  const Golden same = changed(*golden, folder.path() / "same", "");
  ASSERT_TRUE(convert(same, out));
  const auto again = convert(same, out);
  ASSERT_TRUE(again) << again.error().text();
  EXPECT_TRUE(again->report.already_done);

  const std::string up = golden->source->text_prefix() + "layers.1.mlp.up_proj.weight";
  const Golden other = changed(*golden, folder.path() / "other", "", up);
  const auto refused = convert(other, out);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Code::kInvalidArgument);

  folder.write("same/chat_template.jinja", "{{ messages }}");
  EXPECT_FALSE(convert(same, out)) << "a new chat template would be missing";
}

TEST(Quantize, NoticesThatAFinishedCheckpointWasDamaged) {
  auto golden = mixture();
  if (!golden) GTEST_SKIP() << "no model with experts is here";
  const testing::TemporaryFolder folder;
  const Golden source = changed(*golden, folder.path() / "source", "");
  folder.write("source/note.txt", "kept");
  const fs::path out = folder.path() / "out";
  ASSERT_TRUE(convert(source, out));
  ASSERT_TRUE(fs::remove(out / "note.txt"));
  const auto refused = convert(source, out);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Code::kInvalidArgument);
  EXPECT_NE(refused.error().text().find("note.txt"), std::string::npos);
}

// What the engine would refuse later is refused before anything is written.
TEST(Quantize, RefusesASourceThatCouldNotBeLoaded) {
  const auto golden = mixture();
  if (!golden) GTEST_SKIP() << "no model with experts is here";
  for (const char* name : {"norm.weight", "layers.1.input_layernorm.weight",
                           "layers.0.layer_scalar", "layers.1.router.proj.weight"}) {
    const testing::TemporaryFolder folder;
    const Golden lacking =
        changed(*golden, folder.path() / "source", golden->source->text_prefix() + name);
    QuantizeOptions options;
    options.conversion.scheme = Scheme::kDynamic;
    const auto refused = convert(lacking, folder.path() / "out", options);
    ASSERT_FALSE(refused) << name;
    EXPECT_EQ(refused.error().code, Code::kNotFound) << refused.error().text();
    EXPECT_NE(refused.error().text().find(name), std::string::npos) << refused.error().text();
    EXPECT_FALSE(fs::exists(folder.path() / "out.partial"));
  }
}

TEST(Quantize, RefusesCompanionsThatCannotBeRead) {
  const auto golden = mixture();
  if (!golden) GTEST_SKIP() << "no model with experts is here";
  const testing::TemporaryFolder folder;
  const Golden source = changed(*golden, folder.path() / "source", "");
  folder.write("source/generation_config.json", "{bad");
  const auto refused = convert(source, folder.path() / "out");
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Code::kCorrupt);
  EXPECT_NE(refused.error().text().find("generation_config.json"), std::string::npos);
}

TEST(Quantize, RefusesNamesThatAreNoNewFolder) {
  const auto golden = mixture();
  if (!golden) GTEST_SKIP() << "no model with experts is here";
  const testing::TemporaryFolder folder;
  fs::create_symlink("nowhere", folder.path() / "dangling");
  for (const fs::path& out :
       {fs::path(), fs::path("."), fs::path(".."), fs::path("a/.."), folder.path() / "dangling"}) {
    const auto refused = convert(*golden, out);
    ASSERT_FALSE(refused) << out;
    EXPECT_NE(refused.error().code, Code::kInternal) << out;
  }
  fs::create_directory(folder.path() / "empty");
  fs::create_directory_symlink("empty", folder.path() / "link");
  const auto through = convert(*golden, folder.path() / "link" / "");
  ASSERT_TRUE(through) << through.error().text();
  EXPECT_TRUE(fs::exists(folder.path() / "empty" / "config.json"));
}

TEST(Quantize, RestartLeavesWhatIsNoUnfinishedRun) {
  const auto golden = mixture();
  if (!golden) GTEST_SKIP() << "no model with experts is here";
  const testing::TemporaryFolder folder;
  folder.write("out.partial/letter.txt", "mine");
  QuantizeOptions options;
  options.restart = true;
  const auto refused = convert(*golden, folder.path() / "out", options);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Code::kInvalidArgument);
  EXPECT_TRUE(fs::exists(folder.path() / "out.partial/letter.txt"));
}

}  // namespace
}  // namespace gem8
