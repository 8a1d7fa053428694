#include "server/media/image_request.h"

#include <gtest/gtest.h>

#include "foundation/mapped_file.h"
#include "tests/support/base64.h"

namespace gem8 {
namespace {

std::string file_text(const std::string& name) {
  const auto text = read_text_file(std::string(GEM8_TEST_DATA) + "/golden/vision/" + name);
  EXPECT_TRUE(text.has_value()) << name;
  return text.value_or("");
}

std::string data_url(const std::string& name) {
  return "data:image/png;base64," + testing::encode_base64(file_text(name));
}

ImagePreparer preparer_with(const ImageOptions& options) {
  auto loader = MediaLoader::create({});
  EXPECT_TRUE(loader.has_value());
  return {std::move(*loader), options};
}

Error error_of(ImagePreparer& preparer, std::span<const ImageSource> sources) {
  const auto images = preparer.prepare(sources);
  EXPECT_FALSE(images.has_value());
  return images ? Error{} : images.error();
}

TEST(ImagePreparer, MakesPatchesInOrder) {
  ImagePreparer preparer = preparer_with({});
  const std::string wide = data_url("images/rgb_800x5.png"),
                    tall = data_url("images/rgb_3x2000.png");
  const std::vector<ImageSource> sources = {{wide, "a"}, {tall, "b"}, {wide, "c"}};
  const auto images = preparer.prepare(sources, 70);
  ASSERT_TRUE(images.has_value()) << images.error().text();
  ASSERT_EQ(images->size(), 3u);
  const std::string file = file_text("images/rgb_800x5.png");
  const auto direct = preprocess_image(*decode_image(std::as_bytes(std::span(file))), 70);
  EXPECT_EQ((*images)[0].patches->pixels, direct->pixels);
  EXPECT_EQ((*images)[0].patches->positions, direct->positions);
  EXPECT_NE((*images)[1].patches->columns, direct->columns);
  EXPECT_EQ((*images)[0].patches, (*images)[2].patches) << "the second time comes from the cache";
  EXPECT_EQ((*images)[0].content_hash, (*images)[2].content_hash);
  EXPECT_NE((*images)[0].content_hash, (*images)[1].content_hash);
}

TEST(ImagePreparer, TellsBudgetsAndAlphaApart) {
  ImagePreparer white = preparer_with({});
  ImagePreparer drop = preparer_with({.alpha = AlphaPolicy::kDrop});
  const std::string url = data_url("images/rgba.png");
  const std::vector<ImageSource> source = {{url, "a"}};
  const auto small = white.prepare(source, 70), large = white.prepare(source, 1120),
             by_default = white.prepare(source), dropped = drop.prepare(source);
  ASSERT_TRUE(small && large && by_default && dropped);
  EXPECT_LT((*small)[0].patches->soft_tokens(), (*large)[0].patches->soft_tokens());
  EXPECT_LE((*by_default)[0].patches->soft_tokens(), 280);
  EXPECT_NE((*small)[0].content_hash, (*large)[0].content_hash);
  EXPECT_NE((*by_default)[0].content_hash, (*dropped)[0].content_hash);
  EXPECT_NE((*by_default)[0].patches->pixels, (*dropped)[0].patches->pixels);
}

TEST(ImagePreparer, NamesTheFieldOfABadImage) {
  ImagePreparer preparer = preparer_with({});
  const std::string good = data_url("images/rgb_48x48.png");
  for (const char* name :
       {"bad_crc.png", "bomb_header.png", "empty.png", "header_only.jpg", "html.jpg", "svg.png",
        "text.png", "truncated.gif", "truncated.jpg", "truncated.png", "truncated.webp",
        "truncated_header.png", "zero_width.png"}) {
    const std::string url = data_url(std::string("bad/") + name);
    const Error error =
        error_of(preparer, std::vector<ImageSource>{{good, "first"}, {url, "second"}});
    EXPECT_EQ(error.code, Code::kInvalidArgument) << name;
    EXPECT_EQ(error.context, "second") << name;
  }
  for (const char* url : {"data:image/png;base64,AAA", "data:image/png,AAAA",
                          "http://example.com/x.png", "file:///etc/passwd", "x", ""}) {
    const Error error = error_of(preparer, std::vector<ImageSource>{{url, "only"}});
    EXPECT_EQ(error.code, Code::kInvalidArgument) << url;
    EXPECT_EQ(error.context, "only") << url;
  }
}

TEST(ImagePreparer, CountsImages) {
  ImagePreparer preparer = preparer_with({.max_images = 2});
  const std::string url = data_url("images/rgb_48x48.png");
  EXPECT_TRUE(preparer.prepare(std::vector<ImageSource>{{url, "0"}, {url, "1"}}).has_value());
  const Error error =
      error_of(preparer, std::vector<ImageSource>{{url, "0"}, {url, "1"}, {url, "2"}});
  EXPECT_EQ(error.code, Code::kInvalidArgument);
  EXPECT_EQ(error.context, "2");
  EXPECT_EQ(error.message, "At most 2 image(s) may be provided in one prompt.");
  ImagePreparer off = preparer_with({.max_images = 0});
  EXPECT_EQ(error_of(off, std::vector<ImageSource>{{url, "0"}}).context, "0");
  EXPECT_TRUE(off.prepare({}).has_value());
}

TEST(ImagePreparer, CountsPixelsWhetherCachedOrNot) {
  ImagePreparer preparer = preparer_with({.max_request_pixels = 2 * 48 * 48});
  const std::string url = data_url("images/rgb_48x48.png");
  for (int round = 0; round < 2; ++round) {
    EXPECT_TRUE(preparer.prepare(std::vector<ImageSource>{{url, "0"}, {url, "1"}}).has_value());
    EXPECT_EQ(
        error_of(preparer, std::vector<ImageSource>{{url, "0"}, {url, "1"}, {url, "2"}}).context,
        "2");
  }
  ImagePreparer small = preparer_with({.limits = {.max_bytes = 64}});
  EXPECT_EQ(error_of(small, std::vector<ImageSource>{{url, "0"}}).code, Code::kInvalidArgument);
}

TEST(ImagePreparer, WorksWithoutRoomForACache) {
  ImagePreparer preparer = preparer_with({.cache_bytes = 0});
  const std::string url = data_url("images/rgb_48x48.png");
  const auto images = preparer.prepare(std::vector<ImageSource>{{url, "0"}, {url, "1"}});
  ASSERT_TRUE(images.has_value());
  EXPECT_NE((*images)[0].patches, (*images)[1].patches);
  EXPECT_EQ((*images)[0].patches->pixels, (*images)[1].patches->pixels);
}

TEST(MmProcessorKwargs, TakesTheFiveBudgets) {
  for (const int budget : kSoftTokenBudgets) {
    EXPECT_EQ(parse_mm_processor_kwargs(Json::object({{"max_soft_tokens", budget}})).value(),
              budget);
  }
  EXPECT_EQ(parse_mm_processor_kwargs(Json()).value(), std::nullopt);
  EXPECT_EQ(parse_mm_processor_kwargs(Json::object()).value(), std::nullopt);
  EXPECT_EQ(parse_mm_processor_kwargs(Json::object({{"max_soft_tokens", nullptr}})).value(),
            std::nullopt);
  for (const Json& value : {Json(71), Json(0), Json(-70), Json("70"), Json(70.0), Json(true),
                            Json(std::int64_t{1} << 40)}) {
    const auto budget = parse_mm_processor_kwargs(Json::object({{"max_soft_tokens", value}}));
    ASSERT_FALSE(budget.has_value()) << to_text(value);
    EXPECT_EQ(budget.error().code, Code::kInvalidArgument);
    EXPECT_EQ(budget.error().context, "mm_processor_kwargs");
  }
  EXPECT_FALSE(parse_mm_processor_kwargs(Json::object({{"crop", 1}})).has_value());
  EXPECT_FALSE(parse_mm_processor_kwargs(Json(70)).has_value());
}

TEST(MediaLimits, AreReadInEveryFormOfTheFlag) {
  EXPECT_EQ(parse_media_limits(R"({"image": 4})").value(), 4u);
  EXPECT_EQ(parse_media_limits(R"({"image": 0, "video": 0, "audio": 2})").value(), 0u);
  EXPECT_EQ(parse_media_limits(R"({"image": {"count": 3, "width": 512}})").value(), 3u);
  EXPECT_EQ(parse_media_limits(R"({"video": 1})").value(), std::nullopt);
  EXPECT_EQ(parse_media_limits("image=2,video=0").value(), 2u);
  for (const char* text :
       {"", "image", "image=", "image=x", "image=-1", "image=1000", "4", "[4]", R"({"image": -1})",
        R"({"image": "4"})", R"({"picture": 4})", R"({"image": {}})", R"({"image": 4)"}) {
    const auto limit = parse_media_limits(text);
    ASSERT_FALSE(limit.has_value()) << text;
    EXPECT_EQ(limit.error().code, Code::kInvalidArgument) << text;
  }
}

}  // namespace
}  // namespace gem8
