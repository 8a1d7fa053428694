#include "formats/locate.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include "tests/support/temporary_folder.h"

namespace gem8 {
namespace {

using ::testing::HasSubstr;

/// Points the Hugging Face variables at an empty cache for one test.
class Locate : public ::testing::Test {
 protected:
  void SetUp() override {
    ::unsetenv("HF_HUB_CACHE");
    ::setenv("HF_HOME", folder_.path().c_str(), 1);
  }
  void TearDown() override { ::unsetenv("HF_HOME"); }

  testing::TemporaryFolder folder_;
};

TEST_F(Locate, FolderFirst) {
  EXPECT_EQ(*resolve_model_dir(folder_.path().string()), folder_.path());
}

TEST_F(Locate, HubSnapshotOfMain) {
  folder_.write("hub/models--google--gemma-4/snapshots/aaa/config.json", "{}");
  const auto wanted =
      folder_.write("hub/models--google--gemma-4/snapshots/bbb/config.json", "{}").parent_path();
  folder_.write("hub/models--google--gemma-4/refs/main", "bbb\n");
  EXPECT_EQ(*resolve_model_dir("google/gemma-4"), wanted);
}

TEST_F(Locate, SnapshotWithoutRefs) {
  folder_.write("hub/models--org--m/snapshots/empty/x", "");
  const auto wanted =
      folder_.write("hub/models--org--m/snapshots/full/config.json", "{}").parent_path();
  EXPECT_EQ(*resolve_model_dir("org/m"), wanted);
}

TEST_F(Locate, RefsCannotLeaveTheCache) {
  folder_.write("hub/models--org--m/refs/main", "../../../..");
  EXPECT_EQ(resolve_model_dir("org/m").error().code, Code::kNotFound);
}

TEST_F(Locate, HubCacheVariableWins) {
  const testing::TemporaryFolder other;
  ::setenv("HF_HUB_CACHE", other.path().c_str(), 1);
  const auto wanted = other.write("models--org--m/snapshots/x/config.json", "{}").parent_path();
  EXPECT_EQ(*resolve_model_dir("org/m"), wanted);
  ::unsetenv("HF_HUB_CACHE");
}

TEST_F(Locate, SaysWhatWasTried) {
  const auto error = resolve_model_dir("org/absent").error();
  EXPECT_EQ(error.code, Code::kNotFound);
  EXPECT_THAT(error.text(), HasSubstr("models--org--absent"));
  EXPECT_THAT(error.text(), HasSubstr("the folder org/absent"));
  EXPECT_EQ(resolve_model_dir("/no/such/folder/at/all").error().code, Code::kNotFound);
  EXPECT_EQ(resolve_model_dir("../..x/y").error().code, Code::kNotFound);
}

TEST_F(Locate, FilesAndNothingAreRefused) {
  EXPECT_EQ(resolve_model_dir("").error().code, Code::kInvalidArgument);
  EXPECT_EQ(resolve_model_dir(folder_.write("config.json", "{}").string()).error().code,
            Code::kInvalidArgument);
}

}  // namespace
}  // namespace gem8
