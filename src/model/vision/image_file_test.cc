#include "model/vision/image_file.h"

#include <gtest/gtest.h>

#include <fstream>

#include "formats/safetensors_writer.h"
#include "tests/support/temporary_folder.h"

namespace gem8 {
namespace {

const std::string kImages = std::string(GEM8_TEST_DATA) + "/golden/vision/images/";

class ImageFile : public ::testing::Test {
 protected:
  /// A safetensors file of these patches, with `pixels` [rows, columns] and the given positions.
  std::filesystem::path write(std::span<const float> pixels, std::int64_t columns,
                              std::span<const std::int64_t> positions,
                              const std::string& prefix = "") {
    const auto path = folder_.path() / "patches.safetensors";
    const auto n_pixels = static_cast<std::int64_t>(pixels.size()) / columns;
    const auto n_positions = static_cast<std::int64_t>(positions.size()) / 2;
    auto writer =
        SafetensorsWriter::create(path, {{prefix + "positions", DType::kI64, {n_positions, 2}},
                                         {prefix + "pixels", DType::kF32, {n_pixels, columns}}});
    EXPECT_TRUE(writer && writer->append(prefix + "positions", std::as_bytes(positions)) &&
                writer->append(prefix + "pixels", std::as_bytes(pixels)) && writer->finish());
    return path;
  }
  Code code_of(const std::filesystem::path& path) {
    const auto patches = read_image_file(path, {});
    EXPECT_FALSE(patches.has_value());
    if (patches) return Code::kInternal;
    EXPECT_NE(patches.error().text().find(path.string()), std::string::npos);
    return patches.error().code;
  }

  testing::TemporaryFolder folder_;
};

TEST_F(ImageFile, PicturesAreDecodedAndResized) {
  const auto small = read_image_file(kImages + "rgb_640x480.png", {.soft_tokens = 70});
  const auto large = read_image_file(kImages + "rgb_640x480.png", {.soft_tokens = 280});
  ASSERT_TRUE(small && large);
  EXPECT_EQ(small->soft_tokens(), 9 * 7);
  EXPECT_EQ(large->soft_tokens(), 19 * 14);
  const auto white = read_image_file(kImages + "rgba.png", {.alpha = AlphaPolicy::kWhite});
  const auto drop = read_image_file(kImages + "rgba.png", {.alpha = AlphaPolicy::kDrop});
  ASSERT_TRUE(white && drop);
  EXPECT_NE(white->pixels, drop->pixels);
}

TEST_F(ImageFile, PatchesAreTakenAsTheyAre) {
  const auto picture = read_image_file(kImages + "rgb_100x333.png", {.soft_tokens = 70});
  ASSERT_TRUE(picture.has_value());
  for (const char* prefix : {"", "images.0."}) {
    const auto patches =
        read_image_file(write(picture->pixels, kPatchValues, picture->positions, prefix), {});
    ASSERT_TRUE(patches.has_value()) << patches.error().text();
    EXPECT_EQ(patches->pixels, picture->pixels);
    EXPECT_EQ(patches->positions, picture->positions);
    EXPECT_EQ(patches->columns, picture->columns);
  }
}

TEST_F(ImageFile, BadPatchesAreRefused) {
  const auto picture = read_image_file(kImages + "rgb_48x48.png", {.soft_tokens = 70});
  ASSERT_TRUE(picture.has_value());
  const auto& pixels = picture->pixels;
  const auto& positions = picture->positions;
  const auto n = picture->count();
  EXPECT_EQ(code_of(write(pixels, kPatchValues / 2, positions)), Code::kCorrupt);
  EXPECT_EQ(code_of(write(pixels, kPatchValues, std::span(positions).first(18))), Code::kCorrupt);
  EXPECT_EQ(code_of(write({}, kPatchValues, {})), Code::kCorrupt);
  EXPECT_EQ(code_of(write(std::span(pixels).first(4 * kPatchValues), kPatchValues,
                          std::vector<std::int64_t>{0, 0, 1, 0, 0, 1, 1, 1})),
            Code::kCorrupt)
      << "2 x 2 patches pool to nothing";
  for (const std::int64_t x : {std::int64_t{-1}, n, std::int64_t{1} << 62}) {
    auto moved = positions;
    moved[moved.size() - 2] = x;
    EXPECT_EQ(code_of(write(pixels, kPatchValues, moved)), Code::kCorrupt) << x;
  }
  auto swapped = positions;
  std::swap(swapped[0], swapped[2]);
  EXPECT_EQ(code_of(write(pixels, kPatchValues, swapped)), Code::kCorrupt);
  EXPECT_EQ(code_of(write(pixels, kPatchValues, positions, "other.")), Code::kCorrupt);
}

TEST_F(ImageFile, MissingAndForeignFilesAreNamed) {
  EXPECT_EQ(code_of(folder_.path() / "none.png"), Code::kNotFound);
  EXPECT_EQ(code_of(folder_.path() / "none.safetensors"), Code::kNotFound);
  std::ofstream(folder_.path() / "text.png") << "hello";
  EXPECT_EQ(code_of(folder_.path() / "text.png"), Code::kUnsupported);
}

}  // namespace
}  // namespace gem8
