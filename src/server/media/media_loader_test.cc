#include "server/media/media_loader.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>
#include <string>

#include "tests/support/loopback_server.h"

namespace gem8 {
namespace {

namespace fs = std::filesystem;

std::string text_of(const std::vector<std::byte>& bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

Code code_of(const Result<std::vector<std::byte>>& result) {
  EXPECT_FALSE(result.has_value());
  return result ? Code::kInternal : result.error().code;
}

MediaLoader loader_with(MediaSources sources) {
  auto loader = MediaLoader::create(std::move(sources));
  EXPECT_TRUE(loader.has_value());
  return std::move(*loader);
}

TEST(MediaLoader, TakesOnlyDataUrlsByDefault) {
  testing::LoopbackServer server([](std::string_view) { return testing::http_ok("x"); });
  const MediaLoader loader = loader_with({});
  EXPECT_TRUE(loader.load("data:;base64,Zm9v").has_value());
  for (const std::string& url :
       {server.url("/"), std::string("https://example.com/x.png"),
        std::string("file:///etc/passwd"), std::string("ftp://example.com/x"),
        std::string("/etc/passwd"), std::string("Zm9v"), std::string()}) {
    EXPECT_EQ(code_of(loader.load(url)), Code::kInvalidArgument) << url;
  }
  EXPECT_EQ(server.n_connections(), 0);
}

TEST(MediaLoader, FetchesFromAllowedHostsWhateverTheirSpelling) {
  testing::LoopbackServer server([](std::string_view) { return testing::http_ok("body"); });
  MediaSources sources;
  sources.remote.allowed_hosts = {"LocalHost."};
  sources.remote.is_public = [](const IpAddress&) { return true; };
  const MediaLoader loader = loader_with(std::move(sources));
  const auto body = loader.load("HTTP" + server.url("/", "LOCALhost").substr(4));
  ASSERT_TRUE(body.has_value()) << body.error().text();
  EXPECT_EQ(text_of(*body), "body");
  EXPECT_EQ(code_of(loader.load(server.url("/", "127.0.0.1"))), Code::kInvalidArgument);
}

TEST(MediaLoader, ErrorsNeverRepeatTheUrl) {
  const MediaLoader loader = loader_with({});
  for (const char* url : {"data:image/png;base64,s3cret!", "http://s3cret/", "file:///s3cret",
                          "s3cret:x", "data:s3cret"}) {
    const auto bytes = loader.load(url);
    ASSERT_FALSE(bytes.has_value());
    EXPECT_EQ(bytes.error().text().find("s3cret"), std::string::npos) << bytes.error().text();
  }
}

class LocalFiles : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (fs::temp_directory_path() / "gem8_media_XXXXXX").string();
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    root_ = pattern;
    fs::create_directories(root_ / "open" / "sub folder");
    fs::create_directories(root_ / "open2");
    write(root_ / "open" / "a.png", "inside");
    write(root_ / "open" / "sub folder" / "b.png", "deeper");
    write(root_ / "open2" / "c.png", "neighbour");
    write(root_ / "secret.png", "secret");
    fs::create_symlink(root_ / "secret.png", root_ / "open" / "escape.png");
    fs::create_symlink(root_, root_ / "open" / "up");
    fs::create_symlink("a.png", root_ / "open" / "alias.png");
    fs::create_directory_symlink(root_ / "open", root_ / "way_in");
    ASSERT_EQ(::mkfifo((root_ / "open" / "fifo").c_str(), 0600), 0);
  }
  void TearDown() override { fs::remove_all(root_); }

  static void write(const fs::path& path, std::string_view text) {
    std::ofstream(path, std::ios::binary) << text;
  }
  std::string url(std::string_view path) const {
    return "file://" + root_.string() + std::string(path);
  }

  fs::path root_;
};

TEST_F(LocalFiles, AreReadBelowTheFolderOnly) {
  const MediaLoader loader = loader_with({.local_folder = root_ / "open"});
  const std::pair<std::string, const char*> kInside[] = {
      {url("/open/a.png"), "inside"},
      {"file:" + (root_ / "open" / "a.png").string(), "inside"},
      {"file://localhost" + (root_ / "open" / "a.png").string(), "inside"},
      {url("/open/alias.png"), "inside"},
      {url("/open/../open/./a.png"), "inside"},
      {url("/way_in/a.png"), "inside"},
      {url("/open/sub%20folder/b.png"), "deeper"}};
  for (const auto& [from, want] : kInside) {
    const auto bytes = loader.load(from);
    ASSERT_TRUE(bytes.has_value()) << from << ": " << bytes.error().text();
    EXPECT_EQ(text_of(*bytes), want) << from;
  }
  for (const std::string& from :
       {url("/secret.png"), url("/open/../secret.png"), url("/open/%2e%2e/secret.png"),
        url("/open/escape.png"), url("/open/up/secret.png"), url("/open2/c.png"), url("/open"),
        url("/open/"), url("/open/fifo"), url("/open/none.png"), url("/none.png"),
        url("/open/a.png%00.png"), url("/open/a%2"), std::string("file:a.png"),
        std::string("file://elsewhere/a.png"), std::string("file:"),
        std::string("file:///dev/zero"), std::string("file:///proc/self/environ")}) {
    const auto bytes = loader.load(from);
    ASSERT_FALSE(bytes.has_value()) << from;
    EXPECT_EQ(bytes.error().code, Code::kInvalidArgument) << from;
  }
}

TEST_F(LocalFiles, DoNotTellWhetherSomethingElsewhereExists) {
  const MediaLoader loader = loader_with({.local_folder = root_ / "open"});
  EXPECT_EQ(loader.load(url("/secret.png")).error().text(),
            loader.load(url("/missing.png")).error().text());
}

TEST_F(LocalFiles, HaveALimit) {
  MediaSources sources{.local_folder = root_ / "open"};
  sources.remote.max_bytes = 5;
  EXPECT_EQ(code_of(loader_with(std::move(sources)).load(url("/open/a.png"))), Code::kExhausted);
}

TEST_F(LocalFiles, NeedAFolder) {
  for (const fs::path& folder : {root_ / "none", root_ / "secret.png"}) {
    const auto loader = MediaLoader::create({.local_folder = folder});
    ASSERT_FALSE(loader.has_value());
    EXPECT_EQ(loader.error().code, Code::kInvalidArgument);
  }
}

}  // namespace
}  // namespace gem8
