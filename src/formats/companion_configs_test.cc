#include "formats/companion_configs.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "formats/model_config.h"
#include "tests/support/temporary_folder.h"

namespace gem8 {
namespace {

using ::testing::ElementsAre;

TEST(GenerationConfig, ReadsTheReleasedMembers) {
  const Result<GenerationConfig> config = parse_generation_config(*parse_json(
      R"({"bos_token_id":2,"pad_token_id":0,"eos_token_id":[1,106,50],"do_sample":true,"temperature":1.0,"top_k":64,
          "top_p":0.95,"suppress_tokens":[258883,258882],"transformers_version":"5.15.1"})"));
  ASSERT_TRUE(config) << config.error().text();
  EXPECT_THAT(config->eos_token_ids, ElementsAre(1, 106, 50));
  EXPECT_THAT(config->suppress_tokens, ElementsAre(258883, 258882));
  EXPECT_EQ(config->temperature, 1.0);
  EXPECT_EQ(config->top_k, 64);
  EXPECT_EQ(config->top_p, 0.95);
  EXPECT_EQ(config->do_sample, true);
  EXPECT_EQ(config->min_p, std::nullopt);
  EXPECT_THAT(parse_generation_config(*parse_json(R"({"eos_token_id":1})"))->eos_token_ids,
              ElementsAre(1));
}

TEST(GenerationConfig, RefusesMistyped) {
  for (const std::string_view text :
       {"[]", R"({"eos_token_id":"1"})", R"({"eos_token_id":[[1]]})", R"({"temperature":"hot"})",
        R"({"temperature":-1})", R"({"top_p":1.5})", R"({"top_k":1.5})",
        R"({"suppress_tokens":[-3]})", R"({"do_sample":1})", R"({"max_new_tokens":0})",
        R"({"repetition_penalty":0})"}) {
    const Result<GenerationConfig> config = parse_generation_config(*parse_json(text));
    ASSERT_FALSE(config) << text;
    EXPECT_EQ(config.error().code, Code::kCorrupt) << text;
  }
}

TEST(TokenizerConfig, TokensAsStringsOrObjects) {
  const Result<TokenizerConfig> config = parse_tokenizer_config(*parse_json(
      R"({"tokenizer_class":"GemmaTokenizer","bos_token":"<bos>","eos_token":{"content":"<eos>","lstrip":false},
          "pad_token":null,"model_max_length":1000000000000000019884624838656,
          "chat_template":[{"name":"other","template":"x"},{"name":"default","template":"y"}]})"));
  ASSERT_TRUE(config) << config.error().text();
  EXPECT_EQ(config->bos_token, "<bos>");
  EXPECT_EQ(config->eos_token, "<eos>");
  EXPECT_EQ(config->pad_token, std::nullopt);
  EXPECT_EQ(config->model_max_length, std::nullopt);
  EXPECT_EQ(config->chat_template, "y");
  EXPECT_EQ(parse_tokenizer_config(*parse_json(R"({"model_max_length":4096})"))->model_max_length,
            4096);
}

TEST(TokenizerConfig, RefusesMistyped) {
  for (const std::string_view text :
       {"1", R"({"bos_token":1})", R"({"eos_token":{"content":1}})", R"({"eos_token":{}})",
        R"({"chat_template":1})", R"({"chat_template":[1]})",
        R"({"chat_template":[{"name":"default"}]})", R"({"model_max_length":"x"})",
        R"({"model_max_length":0})", R"({"add_bos_token":"yes"})", R"({"tokenizer_class":[]})"}) {
    const Result<TokenizerConfig> config = parse_tokenizer_config(*parse_json(text));
    ASSERT_FALSE(config) << text;
    EXPECT_EQ(config.error().code, Code::kCorrupt) << text;
  }
}

TEST(ImageProcessorConfig, NestedFlatAndInjectedSize) {
  const Result<ImageProcessorConfig> nested = parse_image_processor_config(*parse_json(
      R"({"processor_class":"Gemma4Processor","image_processor":{"max_soft_tokens":560,"resample":3,"do_normalize":false,
          "image_mean":[0,0,0],"image_std":[1,1,1],"size":{"height":224,"width":224}},"video_processor":{"max_soft_tokens":70}})"));
  ASSERT_TRUE(nested) << nested.error().text();
  EXPECT_EQ(nested->max_soft_tokens, 560);
  EXPECT_THAT(nested->image_std, ElementsAre(1, 1, 1));
  const Result<ImageProcessorConfig> flat =
      parse_image_processor_config(*parse_json(R"({"max_soft_tokens":1120,"patch_size":16})"));
  ASSERT_TRUE(flat);
  EXPECT_EQ(flat->max_soft_tokens, 1120);
  EXPECT_EQ(flat->rescale_factor, 1.0 / 255.0);
}

TEST(ImageProcessorConfig, RefusesMistyped) {
  for (const std::string_view text :
       {"[]", R"({"image_processor":[]})", R"({"max_soft_tokens":281})",
        R"({"max_soft_tokens":"280"})", R"({"patch_size":0})", R"({"rescale_factor":0})",
        R"({"resample":9})", R"({"image_mean":[0]})", R"({"image_std":["1",1,1]})",
        R"({"do_resize":1})"}) {
    const Result<ImageProcessorConfig> config = parse_image_processor_config(*parse_json(text));
    ASSERT_FALSE(config) << text;
    EXPECT_EQ(config.error().code, Code::kCorrupt) << text;
  }
}

TEST(CompanionConfigs, MissingFilesGiveDefaultsBrokenOnesErrors) {
  const testing::TemporaryFolder folder;
  EXPECT_TRUE(read_generation_config(folder.path())->eos_token_ids.empty());
  EXPECT_EQ(read_tokenizer_config(folder.path())->bos_token, std::nullopt);
  EXPECT_EQ(read_image_processor_config(folder.path())->max_soft_tokens, 280);
  folder.write("preprocessor_config.json", R"({"max_soft_tokens":140})");
  EXPECT_EQ(read_image_processor_config(folder.path())->max_soft_tokens, 140);
  folder.write("processor_config.json", R"({"image_seq_length":280})");  // says nothing of images
  EXPECT_EQ(read_image_processor_config(folder.path())->max_soft_tokens, 140);
  folder.write("processor_config.json", R"({"image_processor":{"max_soft_tokens":70}})");
  EXPECT_EQ(read_image_processor_config(folder.path())->max_soft_tokens, 70);
  EXPECT_EQ(*read_image_soft_tokens(folder.path(), {}), 70);
  folder.write("generation_config.json", "{");
  EXPECT_EQ(read_generation_config(folder.path()).error().code, Code::kCorrupt);
}

TEST(CompanionConfigs, WithoutAProcessorFileTheModelSaysHowManySoftTokens) {
  const testing::TemporaryFolder folder;
  EXPECT_EQ(*read_image_soft_tokens(folder.path(), {.vision_soft_tokens_per_image = 140}), 140);
  const auto odd = read_image_soft_tokens(folder.path(), {.vision_soft_tokens_per_image = 141});
  ASSERT_FALSE(odd);
  EXPECT_EQ(odd.error().code, Code::kCorrupt);
}

}  // namespace
}  // namespace gem8
