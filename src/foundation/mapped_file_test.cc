#include "foundation/mapped_file.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include "tests/support/temporary_folder.h"

namespace gem8 {
namespace {

TEST(MappedFile, HoldsTheBytes) {
  const testing::TemporaryFolder folder;
  const auto file = MappedFile::open(folder.write("a", "bytes"));
  ASSERT_TRUE(file);
  ASSERT_EQ(file->bytes().size(), 5u);
  EXPECT_EQ(file->bytes()[0], std::byte{'b'});
  const auto empty = MappedFile::open(folder.write("empty", ""));
  ASSERT_TRUE(empty);
  EXPECT_TRUE(empty->bytes().empty());
}

/// Nothing but a file is waited for or read without end.
TEST(MappedFile, RefusesWhatIsNoFile) {
  const testing::TemporaryFolder folder;
  ASSERT_EQ(::mkfifo((folder.path() / "pipe").c_str(), 0600), 0);
  std::filesystem::create_symlink("loop", folder.path() / "loop");
  std::filesystem::create_symlink("nowhere", folder.path() / "dangling");
  const struct {
    std::filesystem::path path;
    Code code;
  } kCases[] = {
      {folder.path() / "missing", Code::kNotFound},
      {folder.path() / "dangling", Code::kNotFound},
      {folder.path() / "loop", Code::kInvalidArgument},
      {folder.path() / "pipe", Code::kInvalidArgument},
      {folder.path(), Code::kInvalidArgument},
      {"/dev/zero", Code::kInvalidArgument},
  };
  for (const auto& test : kCases) {
    const auto file = MappedFile::open(test.path);
    ASSERT_FALSE(file) << test.path;
    EXPECT_EQ(file.error().code, test.code) << test.path;
    EXPECT_NE(file.error().text().find(test.path.string()), std::string::npos);
  }
}

}  // namespace
}  // namespace gem8
