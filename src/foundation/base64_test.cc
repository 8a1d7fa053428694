#include "foundation/base64.h"

#include <gtest/gtest.h>

#include <string>

namespace gem8 {
namespace {

std::string text_of(const std::vector<std::byte>& bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

Code code_of(const Result<std::vector<std::byte>>& result) {
  EXPECT_FALSE(result.has_value());
  return result ? Code::kInternal : result.error().code;
}

TEST(DecodeBase64, DecodesTheExamplesOfTheStandard) {
  // RFC 4648, section 10.
  const std::pair<const char*, const char*> kCases[] = {{"", ""},
                                                        {"Zg==", "f"},
                                                        {"Zm8=", "fo"},
                                                        {"Zm9v", "foo"},
                                                        {"Zm9vYg==", "foob"},
                                                        {"Zm9vYmE=", "fooba"},
                                                        {"Zm9vYmFy", "foobar"},
                                                        {"+/+/", "\xfb\xff\xbf"}};
  for (const auto& [text, want] : kCases) {
    const auto bytes = decode_base64(text, 100);
    ASSERT_TRUE(bytes.has_value()) << text;
    EXPECT_EQ(text_of(*bytes), want) << text;
  }
}

TEST(DecodeBase64, RefusesEverythingElse) {
  for (const char* text : {"Z", "Zg", "Zg=", "Zm9vY", "Zm9v\n", "Zm9v Zm9v", "Zm 9",
                           "====", "Z===", "=g==", "Zg==Zg==", "Z=g=", "Zm9=v===", "Zm9-", "Zm9_",
                           "Zm9\x80", "%2B%2B==", "Zm9v===="}) {
    EXPECT_EQ(code_of(decode_base64(text, 100)), Code::kInvalidArgument) << text;
  }
}

TEST(DecodeBase64, KnowsTheSizeBeforeDecoding) {
  EXPECT_TRUE(decode_base64("Zm9vYg==", 4).has_value());
  EXPECT_EQ(code_of(decode_base64("Zm9vYg==", 3)), Code::kExhausted);
  EXPECT_EQ(code_of(decode_base64("????????", 3)), Code::kExhausted);
}

}  // namespace
}  // namespace gem8
