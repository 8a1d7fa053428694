#include "formats/data_url.h"

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

TEST(DecodeDataUrl, ReadsBase64OfAnyMediaType) {
  for (const char* url : {"data:image/png;base64,Zm9v", "data:;base64,Zm9v", "DATA:x;BASE64,Zm9v",
                          "data:text/plain;charset=utf-8;base64,Zm9v"}) {
    const auto bytes = decode_data_url(url, 100);
    ASSERT_TRUE(bytes.has_value()) << url;
    EXPECT_EQ(text_of(*bytes), "foo");
  }
}

TEST(DecodeDataUrl, RefusesWhatItDoesNotUnderstand) {
  for (const char* url : {"", "data", "data:", "data:,", "data:image/png", "data:image/png;base64",
                          "data:image/png,Zm9v", "data:base64,Zm9v", "data:image/png;base64;x,Zm9v",
                          "data:image/png;base64,Zm9", "data:image/png;base64 ,Zm9v"}) {
    EXPECT_EQ(code_of(decode_data_url(url, 100)), Code::kInvalidArgument) << url;
  }
  EXPECT_EQ(code_of(decode_data_url("data:;base64,Zm9v", 2)), Code::kExhausted);
}

}  // namespace
}  // namespace gem8
