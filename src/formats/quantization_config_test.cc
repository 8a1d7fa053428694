#include "formats/quantization_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace gem8 {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

QuantizationConfig parse(std::string_view text) {
  Result<QuantizationConfig> config = parse_quantization_config(*parse_json(text));
  EXPECT_TRUE(config) << config.error().text();
  return config ? *std::move(config) : QuantizationConfig{};
}

TEST(QuantizationConfig, Fp8StaticAndDynamic) {
  // AutoFP8 writes kv_cache_scheme as a string; loaders ignore it.
  const QuantizationConfig fixed = parse(
      R"({"quant_method":"fp8","activation_scheme":"static","ignored_layers":["lm_head","a.b"],"kv_cache_scheme":"static"})");
  EXPECT_EQ(fixed.method, QuantMethod::kFp8);
  EXPECT_EQ(fixed.activations, ActivationScheme::kStatic);
  EXPECT_THAT(fixed.ignored, ElementsAre("lm_head", "a.b"));
  EXPECT_TRUE(fixed.has_kv_cache_scheme);
  EXPECT_TRUE(fixed.check_loadable());
  // An absent or empty ignored_layers gives way to modules_to_not_convert.
  const QuantizationConfig dynamic = parse(
      R"({"quant_method":"fp8","activation_scheme":"dynamic","ignored_layers":[],"modules_to_not_convert":["x"]})");
  EXPECT_EQ(dynamic.activations, ActivationScheme::kDynamic);
  EXPECT_THAT(dynamic.ignored, ElementsAre("x"));
  EXPECT_TRUE(dynamic.check_loadable());
}

TEST(QuantizationConfig, CompressedTensorsIsRecognisedNotLoaded) {
  const QuantizationConfig config =
      parse(R"({"quant_method":"compressed-tensors","format":"float-quantized",
    "config_groups":{"group_0":{"targets":["Linear"],
      "weights":{"num_bits":8,"type":"float","strategy":"channel","symmetric":true,"dynamic":false},
      "input_activations":{"num_bits":8,"type":"float","strategy":"token","symmetric":true,"dynamic":true}}},
    "ignore":["lm_head","re:.*router"],"kv_cache_scheme":null})");
  EXPECT_EQ(config.method, QuantMethod::kCompressedTensors);
  EXPECT_EQ(config.activations, ActivationScheme::kDynamic);
  EXPECT_EQ(config.format, "float-quantized");
  EXPECT_FALSE(config.has_kv_cache_scheme);
  ASSERT_EQ(config.groups.size(), 1u);
  EXPECT_THAT(config.groups[0].targets, ElementsAre("Linear"));
  EXPECT_EQ(config.groups[0].weights->strategy, "channel");
  EXPECT_EQ(config.groups[0].weights->num_bits, 8);
  EXPECT_TRUE(config.groups[0].input_activations->dynamic);
  EXPECT_THAT(config.ignored, ElementsAre("lm_head", "re:.*router"));
  EXPECT_EQ(config.check_loadable().error().code, Code::kUnsupported);
  EXPECT_THAT(config.check_loadable().error().message, HasSubstr("'compressed-tensors'"));
}

TEST(QuantizationConfig, ModelOptInBothFiles) {
  const QuantizationConfig flat =
      parse(R"({"quant_method":"modelopt","quant_algo":"FP8","ignore":["lm_head"]})");
  EXPECT_EQ(flat.method, QuantMethod::kModelOpt);
  EXPECT_EQ(flat.format, "FP8");
  const QuantizationConfig nested = parse(
      R"({"producer":{"name":"modelopt"},"quantization":{"quant_algo":"FP8","kv_cache_quant_algo":"FP8","exclude_modules":["a*"]}})");
  EXPECT_EQ(nested.method, QuantMethod::kModelOpt);
  EXPECT_TRUE(nested.has_kv_cache_scheme);
  EXPECT_THAT(nested.ignored, ElementsAre("a*"));
  EXPECT_EQ(nested.check_loadable().error().code, Code::kUnsupported);
}

TEST(QuantizationConfig, WhatNoLoaderTakesIsNamed) {
  const std::pair<std::string_view, std::string_view> cases[] = {
      {R"({"quant_method":"gguf"})", "'gguf'"},
      {R"({"quant_method":"fbgemm_fp8"})", "'fbgemm_fp8'"},
      {R"({"quant_method":"fp8"})", "activation_scheme ''"},
      {R"({"quant_method":"fp8","activation_scheme":"Static"})", "activation_scheme 'Static'"},
      {R"({"quant_method":"fp8","activation_scheme":"dynamic","weight_block_size":[128,128]})",
       "weight_block_size"},
  };
  for (const auto& [text, says] : cases) {
    const Status status = parse(text).check_loadable();
    ASSERT_FALSE(status) << text;
    EXPECT_EQ(status.error().code, Code::kUnsupported);
    EXPECT_THAT(status.error().message, HasSubstr(says));
  }
}

TEST(QuantizationConfig, MistypedMembersAreCorrupt) {
  const std::string_view cases[] = {
      "[]",
      "{}",
      R"({"quant_method":8})",
      R"({"quant_method":"fp8","activation_scheme":1})",
      R"({"quant_method":"fp8","activation_scheme":"static","ignored_layers":"lm_head"})",
      R"({"quant_method":"fp8","activation_scheme":"static","ignored_layers":[1]})",
      R"({"quant_method":"compressed-tensors","config_groups":[]})",
      R"({"quant_method":"compressed-tensors","config_groups":{"g":1}})",
      R"({"quant_method":"compressed-tensors","config_groups":{"g":{"targets":"Linear"}}})",
      R"({"quant_method":"compressed-tensors","config_groups":{"g":{"weights":{"num_bits":"8"}}}})",
      R"({"quant_method":"compressed-tensors","config_groups":{"g":{"weights":{"dynamic":1}}}})",
      R"({"quant_method":"compressed-tensors","ignore":{}})",
      R"({"quant_method":"modelopt","quant_algo":[]})",
  };
  for (const std::string_view text : cases) {
    const Result<QuantizationConfig> config = parse_quantization_config(*parse_json(text));
    ASSERT_FALSE(config) << text;
    EXPECT_EQ(config.error().code, Code::kCorrupt) << text;
  }
}

}  // namespace
}  // namespace gem8
