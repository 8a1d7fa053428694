#include "foundation/json/json_lines.h"

#include <gtest/gtest.h>

namespace gem8 {
namespace {

TEST(JsonLines, ReadsValuesAndSkipsBlankLines) {
  JsonLines lines("1\n\n \t\r\n{\"a\": 2}\r\n[3]", "data");
  auto value = lines.next();
  ASSERT_TRUE(value && *value);
  EXPECT_EQ((*value)->as_int(), 1);
  EXPECT_EQ(lines.where(), "data:1");
  value = lines.next();
  ASSERT_TRUE(value && *value);
  EXPECT_EQ((*value)->find("a")->as_int(), 2);
  EXPECT_EQ(lines.where(), "data:4");
  value = lines.next();
  ASSERT_TRUE(value && *value);
  EXPECT_EQ((*value)->as_array().size(), 1u);
  EXPECT_EQ(lines.where(), "data:5");
  for (int again = 0; again < 2; ++again) {
    value = lines.next();
    ASSERT_TRUE(value);
    EXPECT_FALSE(*value);
  }
}

TEST(JsonLines, NamesTheLineThatIsNoJson) {
  JsonLines lines("1\n{\n2\n", "");
  ASSERT_TRUE(lines.next());
  const auto broken = lines.next();
  ASSERT_FALSE(broken);
  EXPECT_EQ(broken.error().code, Code::kInvalidArgument);
  EXPECT_EQ(broken.error().context, "line 2");
}

TEST(JsonLines, NothingHasNoValue) {
  for (const char* text : {"", "\n", "  \n\n"}) {
    const auto value = JsonLines(text, "x").next();
    ASSERT_TRUE(value);
    EXPECT_FALSE(*value);
  }
}

}  // namespace
}  // namespace gem8
