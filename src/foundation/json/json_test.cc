#include "foundation/json/json.h"

#include <gtest/gtest.h>

namespace gem8 {
namespace {

TEST(Json, KeepsMemberOrderAndIntegerSpelling) {
  const auto value = parse_json(
      R"({"b": 1, "a": 1.0, "c": [true, null, "x\u00e9"], "big": 123456789012345678901})");
  ASSERT_TRUE(value.has_value()) << value.error().text();
  EXPECT_EQ(to_text(*value), R"({"b":1,"a":1.0,"c":[true,null,"xé"],"big":123456789012345678901})");
  EXPECT_EQ(to_text(*value, {.ascii = true, .python_spaces = true}),
            R"({"b": 1, "a": 1.0, "c": [true, null, "x\u00e9"], "big": 123456789012345678901})");
}

TEST(Json, ReadsDoublesToTheNearest) {
  for (const double expected :
       {0.1, 1e-6, 6.02214076e23, 2.2250738585072014e-308, 5e-324, 1.7976931348623157e308}) {
    const auto value = parse_json(to_text(Json(expected)));
    ASSERT_TRUE(value.has_value());
    EXPECT_EQ(value->as_double(), expected);
  }
}

TEST(Json, RefusesWhatIsNotOneDocument) {
  for (const char* text : {"", "{", "[1,]", "{\"a\":1,\"a\":2}", "1 2", "{\"a\" 1}", "\"\xff\"",
                           "nul", "\"a\nb\"", "[1e]", "\"\\ud800\""}) {
    const auto value = parse_json(text);
    ASSERT_FALSE(value.has_value()) << text;
    EXPECT_EQ(value.error().code, Code::kCorrupt) << text;
  }
}

TEST(Json, RefusesDuplicatesInLargeObjects) {
  std::string text = "{";
  for (int i = 0; i < 100; ++i) text += fmt::format("\"k{}\":{},", i, i);
  EXPECT_TRUE(parse_json(text + "\"last\":0}").has_value());
  EXPECT_FALSE(parse_json(text + "\"k3\":0}").has_value());
  EXPECT_FALSE(parse_json(text + "\"k99\":0}").has_value());
}

TEST(Json, BoundsDepthAndSize) {
  const std::string deep(100, '[');
  EXPECT_EQ(parse_json(deep + std::string(100, ']')).error().code, Code::kCorrupt);
  EXPECT_EQ(parse_json("[1,2,3]", {.max_bytes = 3}).error().code, Code::kExhausted);
}

TEST(Json, SetReplacesAndAppends) {
  Json value;
  value.set("a", 1);
  value.set("b", "x");
  value.set("a", 2);
  EXPECT_EQ(to_text(value), R"({"a":2,"b":"x"})");
}

}  // namespace
}  // namespace gem8
