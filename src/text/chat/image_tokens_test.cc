#include "text/chat/image_tokens.h"

#include <gtest/gtest.h>

#include <initializer_list>

namespace gem8 {
namespace {

constexpr SpecialTokenIds kTokens{
    .image = 50, .boi = 51, .eoi = 52, .audio = 60, .boa = 61, .eoa = 62, .video = 70};

std::vector<TokenId> ids(std::initializer_list<int> values) {
  std::vector<TokenId> out;
  for (const int value : values) out.push_back(TokenId{value});
  return out;
}

TEST(ExpandImages, PutsEveryImageInItsPlace) {
  const auto prompt =
      expand_images(ids({2, 50, 7, 50, 50, 8}), std::vector<std::int64_t>{2, 1, 3}, kTokens);
  ASSERT_TRUE(prompt.has_value()) << prompt.error().text();
  EXPECT_EQ(prompt->ids, ids({2, 51, 50, 50, 52, 7, 51, 50, 52, 51, 50, 50, 50, 52, 8}));
  ASSERT_EQ(prompt->images.size(), 3u);
  const std::int64_t kRuns[3][2] = {{2, 2}, {7, 1}, {10, 3}};
  for (std::size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(prompt->images[i].position, kRuns[i][0]);
    EXPECT_EQ(prompt->images[i].n_tokens, kRuns[i][1]);
  }
}

TEST(ExpandImages, LeavesTextAlone) {
  const auto prompt = expand_images(ids({2, 7, 8}), {}, SpecialTokenIds{});
  ASSERT_TRUE(prompt.has_value());
  EXPECT_EQ(prompt->ids, ids({2, 7, 8}));
  EXPECT_TRUE(prompt->images.empty());
}

TEST(ExpandImages, RefusesMarkersThatTextSpells) {
  for (const int marker : {50, 51, 52, 60, 61, 62, 70}) {
    const auto alone = expand_images(ids({2, marker, 7}), {}, kTokens);
    ASSERT_FALSE(alone.has_value()) << marker;
    EXPECT_EQ(alone.error().code, Code::kInvalidArgument);
    const auto beside_an_image =
        expand_images(ids({2, 50, marker}), std::vector<std::int64_t>{1}, kTokens);
    ASSERT_FALSE(beside_an_image.has_value()) << marker;
    EXPECT_EQ(beside_an_image.error().code, Code::kInvalidArgument);
  }
}

TEST(ExpandImages, RefusesImagesWithoutAPlace) {
  for (const SpecialTokenIds& tokens : {kTokens, SpecialTokenIds{}, SpecialTokenIds{.image = 50}}) {
    const auto prompt = expand_images(ids({2, 7}), std::vector<std::int64_t>{1}, tokens);
    ASSERT_FALSE(prompt.has_value());
    EXPECT_EQ(prompt.error().code, Code::kInvalidArgument);
  }
}

TEST(FindImages, FindsWhatExpandImagesLeaves) {
  const std::vector<std::int64_t> counts{2, 1, 3};
  const auto prompt = expand_images(ids({2, 50, 7, 50, 50, 8}), counts, kTokens);
  ASSERT_TRUE(prompt.has_value());
  const auto runs = find_images(prompt->ids, counts, kTokens);
  ASSERT_TRUE(runs.has_value()) << runs.error().text();
  ASSERT_EQ(runs->size(), 3u);
  for (std::size_t i = 0; i < 3; ++i) {
    EXPECT_EQ((*runs)[i].position, prompt->images[i].position);
    EXPECT_EQ((*runs)[i].n_tokens, prompt->images[i].n_tokens);
  }
  // Without markers between them, two images are told apart by their sizes.
  const auto bare = find_images(ids({50, 50, 50}), std::vector<std::int64_t>{1, 2}, kTokens);
  ASSERT_TRUE(bare.has_value()) << bare.error().text();
  EXPECT_EQ((*bare)[1].position, 1);
}

TEST(FindImages, RefusesIdsWithoutTheRightRoom) {
  const auto code_of = [](std::initializer_list<int> values, std::vector<std::int64_t> counts,
                          const SpecialTokenIds& tokens = kTokens) {
    const auto runs = find_images(ids(values), counts, tokens);
    EXPECT_FALSE(runs.has_value());
    return runs ? Code::kInternal : runs.error().code;
  };
  EXPECT_EQ(code_of({2, 50, 50, 7}, {3}), Code::kInvalidArgument);
  EXPECT_EQ(code_of({2, 50, 50}, {3}), Code::kInvalidArgument);
  EXPECT_EQ(code_of({2, 50, 50, 50}, {2}), Code::kInvalidArgument);
  EXPECT_EQ(code_of({2, 50, 50}, {}), Code::kInvalidArgument);
  EXPECT_EQ(code_of({2, 50, 50, 7}, {2, 2}), Code::kInvalidArgument);
  EXPECT_EQ(code_of({2, 7}, {1}), Code::kInvalidArgument);
  EXPECT_EQ(code_of({2, 50}, {1}, {}), Code::kInvalidArgument) << "no such token";
}

}  // namespace
}  // namespace gem8
