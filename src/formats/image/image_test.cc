#include "formats/image/image.h"

#include <gtest/gtest.h>

#include <fstream>
#include <string>

#include "formats/image/decoders.h"
#include "foundation/json/json.h"
#include "foundation/mapped_file.h"

namespace gem8 {
namespace {

const std::string kVision = std::string(GEM8_TEST_DATA) + "/golden/vision/";

TEST(DecodeImage, RefusesEveryBadFile) {
  std::ifstream list(kVision + "bad.jsonl");
  int n_files = 0;
  for (std::string line; std::getline(list, line); ++n_files) {
    const std::string name = parse_json(line)->find("file")->as_string();
    const auto bytes = MappedFile::open(kVision + "bad/" + name);
    ASSERT_TRUE(bytes) << name;
    const auto image = decode_image(bytes->bytes());
    ASSERT_FALSE(image) << name;
    const bool bomb = name.starts_with("bomb");
    const bool foreign = name == "html.jpg" || name == "svg.png" || name == "text.png";
    const Code wanted = bomb ? Code::kExhausted : foreign ? Code::kUnsupported : Code::kCorrupt;
    EXPECT_EQ(image.error().code, wanted) << name << ": " << image.error().text();
  }
  EXPECT_EQ(n_files, 14);
}

TEST(DecodeImage, RefusesEveryTruncationOfEveryFormat) {
  for (const char* name : {"rgb_37x61.png", "baseline_420.jpg", "progressive.jpg", "lossless.webp",
                           "lossy.webp", "still.gif"}) {
    const auto file = MappedFile::open(kVision + "images/" + name);
    ASSERT_TRUE(file) << name;
    const auto bytes = file->bytes();
    const std::size_t step = bytes.size() / 40 + 1;
    // The last bytes of a file may be padding or an end marker that changes no pixel, so cuts stop
    // a little before the end.
    for (std::size_t n = 0; n + bytes.size() / 10 < bytes.size(); n += step) {
      EXPECT_FALSE(decode_image(bytes.first(n)))
          << name << " cut to " << n << " of " << bytes.size();
    }
  }
}

TEST(DecodeImage, ChecksLimitsBeforeTakingMemory) {
  const auto file = MappedFile::open(kVision + "images/rgb_640x480.png");
  ASSERT_TRUE(file);
  for (const ImageLimits& limits :
       {ImageLimits{.max_bytes = 100}, ImageLimits{.max_pixels = 640 * 480 - 1},
        ImageLimits{.max_side = 639}}) {
    const auto image = decode_image(file->bytes(), AlphaPolicy::kWhite, limits);
    ASSERT_FALSE(image);
    EXPECT_EQ(image.error().code, Code::kExhausted);
  }
  EXPECT_TRUE(
      decode_image(file->bytes(), AlphaPolicy::kWhite, {.max_pixels = 640 * 480, .max_side = 640}));
}

TEST(ExifOrientation, SurvivesDamage) {
  const auto orientation = [](std::string_view block) {
    return internal::exif_orientation(std::as_bytes(std::span(block.data(), block.size())));
  };
  using namespace std::string_view_literals;
  EXPECT_EQ(orientation("II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0"sv), 6);
  EXPECT_EQ(orientation("MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0"sv), 6);
  EXPECT_EQ(orientation(""sv), 1);
  EXPECT_EQ(orientation("II*\0"sv), 1);
  EXPECT_EQ(orientation("II*\0\xff\xff\xff\xff"sv), 1);                  // directory outside
  EXPECT_EQ(orientation("II*\0\x08\0\0\0\xff\xff\x12\x01\x03\0"sv), 1);  // entry cut off
  EXPECT_EQ(orientation("II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x09\0\0\0"sv),
            1);  // no such orientation
}

}  // namespace
}  // namespace gem8
