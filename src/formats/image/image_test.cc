#include "formats/image/image.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <zlib.h>

#include <fstream>
#include <string>

#include "formats/image/decoders.h"
#include "foundation/json/json.h"
#include "foundation/mapped_file.h"

namespace gem8 {
namespace {

using namespace std::string_literals;

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

std::string png_chunk(std::string_view type, std::string_view data) {
  const auto big_endian = [](std::uint64_t value) {
    std::string bytes;
    for (int shift = 24; shift >= 0; shift -= 8) bytes += static_cast<char>(value >> shift);
    return bytes;
  };
  const std::string body = std::string(type) + std::string(data);
  const auto crc =
      ::crc32(0, reinterpret_cast<const Bytef*>(body.data()), static_cast<uInt>(body.size()));
  return big_endian(data.size()) + body + big_endian(crc);
}

/// A picture of one pixel with hundreds of texts that unpack to 8 MB each.
TEST(DecodeImage, UnpacksNoTextOfAPng) {
  using namespace std::string_view_literals;
  const std::string text((8 << 20) - 100, 'a');
  std::string packed(::compressBound(text.size()), '\0');
  uLongf n_packed = packed.size();
  ASSERT_EQ(::compress(reinterpret_cast<Bytef*>(packed.data()), &n_packed,
                       reinterpret_cast<const Bytef*>(text.data()), text.size()),
            Z_OK);
  packed.resize(n_packed);
  std::string file = "\x89PNG\r\n\x1a\n";
  file += png_chunk("IHDR", "\0\0\0\x01\0\0\0\x01\x08\x02\0\0\0"sv);
  for (int i = 0; i < 400; ++i) {
    file += png_chunk("zTXt", "key\0\0"s + packed);
    file += png_chunk("iTXt", "key\0\x01\0\0\0"s + packed);
  }
  file += png_chunk("IDAT", "\x78\x9c\x63\xf8\xcf\xc0\0\0\x03\x01\x01\0"sv);
  file += png_chunk("IEND", "");
  const auto peak_kb = [] {
    struct rusage usage {};
    ::getrusage(RUSAGE_SELF, &usage);
    return usage.ru_maxrss;
  };
  const long before = peak_kb();
  const auto image = decode_image(std::as_bytes(std::span(file)));
  ASSERT_TRUE(image) << image.error().text();
  EXPECT_EQ(image->rgb, (std::vector<std::uint8_t>{255, 0, 0}));
  EXPECT_LT(peak_kb() - before, 64 << 10);
}

/// A grey progressive JPEG of zeros: each further scan is a few bytes that say "nothing here" for
/// 16384 blocks at a time.
std::string jpeg_of_scans(int width, int height, int n_scans) {
  using namespace std::string_literals;
  const auto segment = [](char marker, const std::string& data) {
    const std::size_t n = data.size() + 2;
    return "\xff"s + marker + static_cast<char>(n >> 8) + static_cast<char>(n) + data;
  };
  const auto u16 = [](int value) {
    return std::string{static_cast<char>(value >> 8), static_cast<char>(value)};
  };
  const std::string one_code = "\x01"s + std::string(15, '\0');
  const int n_blocks = ((width + 7) / 8) * ((height + 7) / 8);
  std::string nothing;  // per run: code "0" and 14 bits 0, 16384 blocks; 15 bits a run
  nothing.assign(static_cast<std::size_t>(n_blocks / 16384 + 1) * 15 / 8 + 1, '\0');
  std::string file = "\xff\xd8"s + segment('\xdb', "\0"s + std::string(64, '\1'));
  file += segment('\xc2', "\x08"s + u16(height) + u16(width) + "\x01\x01\x11\0"s);
  file += segment('\xc4', "\0"s + one_code + "\0"s);      // DC: no difference
  file += segment('\xc4', "\x10"s + one_code + "\xe0"s);  // AC: a run of 16384 ends
  file += segment('\xda', "\x01\x01\0\0\0\x01"s);
  file += std::string(static_cast<std::size_t>(n_blocks + 7) / 8, '\0');
  for (int i = 0; i < n_scans; ++i) {
    file += segment('\xda', "\x01\x01\0\x01\x3f"s + (i == 0 ? '\x01' : '\x10')) + nothing;
  }
  return file + "\xff\xd9"s;
}

TEST(DecodeImage, ReadsAsManyScansAsAPictureIsWorth) {
  const auto decode = [](const std::string& file) {
    return decode_image(std::as_bytes(std::span(file)));
  };
  EXPECT_TRUE(decode(jpeg_of_scans(64, 64, 100)));
  const auto endless = decode(jpeg_of_scans(64, 64, 250));
  ASSERT_FALSE(endless);
  EXPECT_EQ(endless.error().code, Code::kExhausted);
  EXPECT_TRUE(decode(jpeg_of_scans(8192, 8192, 16)));
  const auto slow = decode(jpeg_of_scans(8192, 8192, 30));
  ASSERT_FALSE(slow);
  EXPECT_EQ(slow.error().code, Code::kExhausted);
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
