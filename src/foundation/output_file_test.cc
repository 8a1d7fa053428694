#include "foundation/output_file.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <string>

#include "foundation/mapped_file.h"
#include "tests/support/temporary_folder.h"

namespace gem8 {
namespace {

namespace fs = std::filesystem;

std::size_t files_in(const fs::path& folder) {
  return static_cast<std::size_t>(
      std::distance(fs::directory_iterator(folder), fs::directory_iterator()));
}

class OutputFileTest : public ::testing::Test {
 protected:
  fs::path at(const char* name) const { return folder_.path() / name; }
  std::string text_at(const char* name) const {
    const auto text = read_text_file(at(name));
    return text ? *text : "unreadable: " + text.error().text();
  }

  testing::TemporaryFolder folder_;
};

TEST_F(OutputFileTest, ReplacesWhatWasThereWhenItIsFinished) {
  ASSERT_TRUE(write_file_atomically(at("f"), "old"));
  auto file = OutputFile::create(at("f"));
  ASSERT_TRUE(file.has_value());
  ASSERT_TRUE(file->write(std::as_bytes(std::span("new", 3))));
  EXPECT_EQ(text_at("f"), "old");
  ASSERT_TRUE(file->finish());
  EXPECT_FALSE(file->is_open());
  EXPECT_EQ(text_at("f"), "new");
  EXPECT_EQ(files_in(folder_.path()), 1u);
}

TEST_F(OutputFileTest, LeavesNothingBehindUnfinished) {
  ASSERT_TRUE(OutputFile::create(at("f")).has_value());
  EXPECT_TRUE(check_writable(at("g")));
  EXPECT_EQ(files_in(folder_.path()), 0u);
}

TEST_F(OutputFileTest, FollowsASymbolicLink) {
  ASSERT_TRUE(write_file_atomically(at("target"), "old"));
  fs::create_symlink("target", at("link"));
  ASSERT_TRUE(write_file_atomically(at("link"), "new"));
  EXPECT_TRUE(fs::is_symlink(at("link")));
  EXPECT_EQ(text_at("target"), "new");
}

TEST_F(OutputFileTest, WritesIntoAPipeAndLeavesItOne) {
  ASSERT_EQ(::mkfifo(at("pipe").c_str(), 0600), 0);
  const int reader = ::open(at("pipe").c_str(), O_RDWR | O_NONBLOCK);
  ASSERT_GE(reader, 0);
  ASSERT_TRUE(write_file_atomically(at("pipe"), "through"));
  char text[16] = {};
  EXPECT_EQ(::read(reader, text, sizeof text), 7);
  EXPECT_STREQ(text, "through");
  ::close(reader);
  EXPECT_TRUE(fs::is_fifo(at("pipe")));
}

TEST_F(OutputFileTest, SaysWhereNothingCanBeWritten) {
  EXPECT_EQ(check_writable("").error().code, Code::kInvalidArgument);
  EXPECT_EQ(check_writable(folder_.path()).error().code, Code::kInvalidArgument);
  EXPECT_EQ(check_writable(at("missing/f")).error().code, Code::kNotFound);
}

}  // namespace
}  // namespace gem8
