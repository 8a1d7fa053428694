#include "foundation/nearest_name.h"

#include <gtest/gtest.h>

#include <array>

namespace gem8 {
namespace {

TEST(NearestName, EditDistance) {
  EXPECT_EQ(edit_distance("port", "port"), 0u);
  EXPECT_EQ(edit_distance("prot", "port"), 1u);
  EXPECT_EQ(edit_distance("", "abc"), 3u);
  EXPECT_EQ(edit_distance("kitten", "sitting"), 3u);
}

TEST(NearestName, OnlyWhatIsNear) {
  static constexpr std::array<std::string_view, 4> kNames = {"host", "port", "image", "images"};
  EXPECT_EQ(nearest_name("prot", kNames), "port");
  EXPECT_EQ(nearest_name("imgaes", kNames), "images");
  EXPECT_EQ(nearest_name("imag", kNames), "image");
  EXPECT_EQ(nearest_name("foo", kNames), std::nullopt);
  EXPECT_EQ(nearest_name("", kNames), std::nullopt);
  EXPECT_EQ(nearest_name("port", {}), std::nullopt);
}

}  // namespace
}  // namespace gem8
