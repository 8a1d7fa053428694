#include "formats/shard_index.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/temporary_folder.h"

namespace gem8 {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

struct BadIndex {
  std::string name;
  std::string text;
  std::string says;
};
class BadShardIndex : public ::testing::TestWithParam<BadIndex> {};

TEST_P(BadShardIndex, IsCorrupt) {
  const Result<ShardIndex> index = parse_shard_index(GetParam().text);
  ASSERT_FALSE(index);
  EXPECT_EQ(index.error().code, Code::kCorrupt);
  EXPECT_THAT(index.error().message, HasSubstr(GetParam().says));
}

const BadIndex kBad[] = {
    {"cut", R"({"weight_map": {)", "invalid JSON"},
    {"array", "[]", "wanted an object"},
    {"no_map", R"({"metadata":{}})", "'weight_map' is missing"},
    {"map_array", R"({"weight_map":[]})", "'weight_map' is array"},
    {"map_empty", R"({"weight_map":{}})", "names no tensor"},
    {"file_number", R"({"weight_map":{"a":1}})", "tensor 'a' is integer"},
    {"tensor_twice", R"({"weight_map":{"a":"x","a":"y"}})", "twice"},
    {"parent", R"({"weight_map":{"a":"../x.safetensors"}})", "'../x.safetensors'"},
    {"absolute", R"({"weight_map":{"a":"/etc/passwd"}})", "'/etc/passwd'"},
    {"backslash", R"({"weight_map":{"a":"..\\x"}})", "not the name of a file"},
    {"dots", R"({"weight_map":{"a":".."}})", "not the name of a file"},
    {"nothing", R"({"weight_map":{"a":""}})", "not the name of a file"},
    {"nul", "{\"weight_map\":{\"a\":\"x\\u0000y\"}}", "not the name of a file"},
    {"metadata_array", R"({"metadata":[],"weight_map":{"a":"x"}})", "'metadata' is array"},
    {"size_string", R"({"metadata":{"total_size":"1"},"weight_map":{"a":"x"}})",
     "wanted a count of bytes"},
    {"size_negative", R"({"metadata":{"total_size":-1},"weight_map":{"a":"x"}})",
     "wanted a count of bytes"},
    {"size_fraction", R"({"metadata":{"total_size":1.5},"weight_map":{"a":"x"}})",
     "wanted a count of bytes"},
    {"size_huge", R"({"metadata":{"total_size":18446744073709551616},"weight_map":{"a":"x"}})",
     "count of bytes"},
};
INSTANTIATE_TEST_SUITE_P(Formats, BadShardIndex, ::testing::ValuesIn(kBad),
                         [](const auto& test) { return test.param.name; });

TEST(ShardIndex, RoundTripsAndListsFilesOnce) {
  const testing::TemporaryFolder folder;
  ShardIndex index{.total_size = 51'611'872'412};
  index.weight_map = {
      {"a", shard_file_name(2, 2)}, {"b", shard_file_name(1, 2)}, {"c", shard_file_name(2, 2)}};
  EXPECT_THAT(index.files(),
              ElementsAre("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"));
  ASSERT_TRUE(write_shard_index(folder.path(), index));
  const auto read = read_shard_index(folder.path());
  ASSERT_TRUE(read && *read);
  EXPECT_EQ((*read)->total_size, index.total_size);
  EXPECT_EQ((*read)->weight_map, index.weight_map);
}

TEST(ShardIndex, AcceptsWholeSizeWrittenAsFraction) {
  const Result<ShardIndex> index =
      parse_shard_index(R"({"metadata":{"total_size":12.0},"weight_map":{"a":"x"}})");
  ASSERT_TRUE(index);
  EXPECT_EQ(index->total_size, 12u);
}

TEST(ShardIndex, FallsBackToTheSingleFile) {
  const testing::TemporaryFolder folder;
  EXPECT_EQ(read_shard_index(folder.path()).error().code, Code::kNotFound);
  folder.write(kSingleFileName, "");
  const auto index = read_shard_index(folder.path());
  ASSERT_TRUE(index);
  EXPECT_FALSE(index->has_value());
}

}  // namespace
}  // namespace gem8
