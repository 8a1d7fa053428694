#include "quantize/samples.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "formats/model_config.h"
#include "foundation/mapped_file.h"
#include "tests/support/base64.h"
#include "tests/support/golden_checkpoint.h"

namespace gem8 {
namespace {

std::vector<std::int32_t> numbers(const std::vector<TokenId>& ids) {
  std::vector<std::int32_t> result;
  for (const TokenId id : ids) result.push_back(static_cast<std::int32_t>(id));
  return result;
}

class SamplesTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const auto bare = testing::golden_path("models/tiny-31b");
    if (bare) bare_ = testing::open_checkpoint(*bare);
    if (std::filesystem::exists(demo_ / "model.safetensors"))
      full_ = testing::open_checkpoint(demo_);
  }

  const std::filesystem::path demo_ = std::filesystem::path(GEM8_SOURCE_DIR) / "models" / "demo";
  std::shared_ptr<const Checkpoint> bare_;  ///< without a tokenizer
  std::shared_ptr<const Checkpoint> full_;
};

TEST_F(SamplesTest, TokensNeedNoTokenizerAndAreTakenAsTheyAre) {
  if (bare_ == nullptr) GTEST_SKIP() << "tiny-31b is not among the fixtures here";
  const auto samples =
      read_samples("{\"tokens\": [2, 5, 7]}\n\n{\"tokens\": [9]}\n", "x", *bare_, {});
  ASSERT_TRUE(samples) << samples.error().text();
  ASSERT_EQ(samples->samples.size(), 2u);
  EXPECT_EQ(numbers(samples->samples[0].tokens), (std::vector<std::int32_t>{2, 5, 7}));
  EXPECT_EQ(numbers(samples->samples[1].tokens), (std::vector<std::int32_t>{9}));
}

TEST_F(SamplesTest, LimitsCountAndLength) {
  if (bare_ == nullptr) GTEST_SKIP() << "tiny-31b is not among the fixtures here";
  const auto samples = read_samples("{\"tokens\": [2, 5, 7]}\n{\"tokens\": [2]}\n{\"tokens\": [2]}",
                                    "x", *bare_, {.max_samples = 2, .max_tokens = 2});
  ASSERT_TRUE(samples);
  EXPECT_EQ(samples->samples.size(), 2u);
  EXPECT_EQ(samples->samples[0].tokens.size(), 2u);
  EXPECT_EQ(samples->cut, 1u);
}

TEST_F(SamplesTest, BadLinesAreRefusedByNumber) {
  if (bare_ == nullptr) GTEST_SKIP() << "tiny-31b is not among the fixtures here";
  for (const std::string_view line :
       {"{", "[]", "{}", "{\"tokens\": 3}", "{\"tokens\": []}", "{\"tokens\": [640]}",
        "{\"tokens\": [-1]}", "{\"tokens\": [\"a\"]}", "{\"text\": 7}"}) {
    const auto samples =
        read_samples("{\"tokens\": [2]}\n" + std::string(line), "file.jsonl", *bare_, {});
    ASSERT_FALSE(samples) << line;
    EXPECT_EQ(samples.error().code, Code::kInvalidArgument) << line;
    EXPECT_NE(samples.error().text().find("file.jsonl:2"), std::string::npos)
        << samples.error().text();
  }
  EXPECT_EQ(read_samples("\n\n", "x", *bare_, {}).error().code, Code::kInvalidArgument);
}

/// What is wrong with the checkpoint is not blamed on a line of the calibration data.
TEST_F(SamplesTest, AMissingTokenizerIsTheCheckpointsFault) {
  if (bare_ == nullptr) GTEST_SKIP() << "tiny-31b is not among the fixtures here";
  for (const std::string_view line :
       {R"({"text": "one"})", R"({"messages": [{"role": "user", "content": "one"}]})"}) {
    const auto samples = read_samples(line, "file.jsonl", *bare_, {});
    ASSERT_FALSE(samples) << line;
    EXPECT_EQ(samples.error().code, Code::kNotFound) << line;
    EXPECT_TRUE(samples.error().text().starts_with(bare_->dir().string()))
        << samples.error().text();
  }
}

TEST_F(SamplesTest, BuiltInMixRendersWithOneBosEach) {
  if (full_ == nullptr) GTEST_SKIP() << "the demo model is not here";
  const auto samples = read_samples(builtin_calibration(), "built-in", *full_, {});
  ASSERT_TRUE(samples) << samples.error().text();
  EXPECT_GE(samples->samples.size(), 24u);
  const TokenId bos{full_->config().text.bos_token_id};
  for (const TokenSample& sample : samples->samples) {
    EXPECT_EQ(std::ranges::count(sample.tokens, bos), 1);
    EXPECT_EQ(sample.tokens.front(), bos);
  }
}

TEST_F(SamplesTest, TextGetsItsBos) {
  if (full_ == nullptr) GTEST_SKIP() << "the demo model is not here";
  const auto samples =
      read_samples("{\"text\": \"one\"}\n{\"text\": \"<bos>one\"}\n", "x", *full_, {});
  ASSERT_TRUE(samples) << samples.error().text();
  ASSERT_EQ(samples->samples.size(), 2u);
  EXPECT_EQ(numbers(samples->samples[0].tokens), numbers(samples->samples[1].tokens));
}

/// The bytes of a file as a data: URL.
std::string data_url(const std::filesystem::path& file) {
  return "data:image/png;base64," + testing::encode_base64(*read_text_file(file));
}

// However a line says where its picture is, the sample is the same.
TEST_F(SamplesTest, PicturesAreFoundWhereLinesSayThemToBe) {
  if (full_ == nullptr) GTEST_SKIP() << "the demo model is not here";
  const auto chat = [](const std::string& part, const std::string& more) {
    return R"({"messages": [{"role": "user", "content": [)" + part +
           R"(, {"type": "text", "text": "What is it?"}]}])" + more + "}\n";
  };
  const std::string absolute = (demo_ / "images/002.png").string();
  std::string lines = chat(R"({"type": "image"})", R"(, "images": ["images/002.png"])");
  lines += chat(R"({"type": "image", "path": "images/002.png"})", "");
  lines += chat(R"({"type": "image", "url": "file://)" + absolute + R"("})", R"(, "images": [])");
  lines += chat(R"({"type": "image_url", "image_url": {"url": ")" + data_url(absolute) + R"("}})",
                R"(, "images": null)");
  lines += chat(R"({"type": "image"})", R"(, "images": [")" + data_url(absolute) + R"("])");
  const auto samples = read_samples(lines, "x", *full_, {.folder = demo_});
  ASSERT_TRUE(samples) << samples.error().text();
  EXPECT_EQ(samples->with_images, 5u);
  ASSERT_EQ(samples->samples.size(), 5u);
  const TokenSample& first = samples->samples[0];
  ASSERT_EQ(first.images.size(), 1u);
  const TokenId placeholder{*full_->config().tokens.image};
  EXPECT_EQ(std::ranges::count(first.tokens, placeholder), first.images[0].n_tokens);
  EXPECT_EQ(first.tokens[static_cast<std::size_t>(first.images[0].position)], placeholder);
  EXPECT_EQ(first.tokens[static_cast<std::size_t>(first.images[0].end() - 1)], placeholder);
  for (const TokenSample& sample : samples->samples) {
    EXPECT_EQ(numbers(sample.tokens), numbers(first.tokens));
    ASSERT_EQ(sample.images.size(), 1u);
    EXPECT_EQ(sample.images[0].position, first.images[0].position);
    EXPECT_EQ(sample.images[0].hash, first.images[0].hash);
    const auto patches = read_patches(sample.images[0]);
    ASSERT_TRUE(patches) << patches.error().text();
    EXPECT_EQ(patches->pixels, read_patches(first.images[0])->pixels);
  }
}

// A sample with pictures is calibrated with or refused, never left out.
TEST_F(SamplesTest, PicturesThatCannotBeReadAreRefusedByLine) {
  if (full_ == nullptr) GTEST_SKIP() << "the demo model is not here";
  const std::string image = R"({"type": "image"})";
  const std::pair<std::string, std::string> cases[] = {
      {image, ""},
      {image, R"(, "images": [])"},
      {image, R"(, "images": "images/002.png")"},
      {image, R"(, "images": [7])"},
      {image, R"(, "images": ["images/nowhere.png"])"},
      {image, R"(, "images": ["images/002.png", "images/007.png"])"},
      {image, R"(, "images": ["chat_template.jinja"])"},
      {image, R"(, "images": ["data:image/png;base64,AAAA"])"},
      {image, R"(, "images": ["data:image/png,AAAA"])"},
      {image, R"(, "images": ["https://example.org/a.png"])"},
      {R"({"type": "text", "text": "none"})", R"(, "images": ["images/002.png"])"},
      {image + R"(, {"type": "text", "text": "<|image|>"})", R"(, "images": ["images/002.png"])"},
  };
  for (const auto& [part, more] : cases) {
    const std::string line =
        R"({"messages": [{"role": "user", "content": [)" + part + "]}]" + more + "}";
    const auto samples =
        read_samples("{\"tokens\": [2]}\n" + line, "file.jsonl", *full_, {.folder = demo_});
    ASSERT_FALSE(samples) << line;
    EXPECT_NE(samples.error().text().find("file.jsonl:2"), std::string::npos)
        << samples.error().text();
  }
}

TEST_F(SamplesTest, AModelWithoutATowerRefusesPictures) {
  if (bare_ == nullptr || full_ == nullptr) GTEST_SKIP() << "the models are not here";
  const auto reader = SampleImageReader::create(*bare_, demo_);
  ASSERT_FALSE(reader);
  EXPECT_EQ(reader.error().code, Code::kUnsupported);
}

TEST(TokenSample, IsCutBeforeAPictureThatDoesNotFit) {
  TokenSample whole;
  for (int i = 0; i < 20; ++i) whole.tokens.push_back(TokenId{i});
  whole.images = {{.position = 3, .n_tokens = 4}, {.position = 12, .n_tokens = 3}};
  struct Case {
    std::size_t limit, tokens, images;
  };
  // Frames are at 2 and 7, and at 11 and 15.
  for (const Case& c :
       {Case{20, 20, 2}, Case{16, 16, 2}, Case{15, 11, 1}, Case{12, 11, 1}, Case{11, 11, 1},
        Case{8, 8, 1}, Case{7, 2, 0}, Case{3, 2, 0}, Case{2, 2, 0}, Case{1, 1, 0}}) {
    TokenSample sample = whole;
    cut_sample(sample, c.limit);
    EXPECT_EQ(sample.tokens.size(), c.tokens) << c.limit;
    EXPECT_EQ(sample.images.size(), c.images) << c.limit;
  }
}

TEST(TokenSample, PiecesCoverItAndPicturesStandAlone) {
  TokenSample sample;
  sample.tokens.resize(20);
  sample.images = {{.position = 0, .n_tokens = 4}, {.position = 12, .n_tokens = 3}};
  std::vector<std::pair<std::size_t, bool>> pieces;
  std::size_t at = 0;
  for (const SamplePiece& piece : pieces_of(sample, 5)) {
    EXPECT_EQ(piece.first, at);
    at += piece.count;
    pieces.emplace_back(piece.count, piece.image != nullptr);
  }
  EXPECT_EQ(at, 20u);
  EXPECT_EQ(pieces, (std::vector<std::pair<std::size_t, bool>>{
                        {4, true}, {5, false}, {3, false}, {3, true}, {5, false}}));
}

}  // namespace
}  // namespace gem8
