#include "formats/model_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>

#include "foundation/mapped_file.h"

namespace gem8 {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::filesystem::path model(std::string_view name) {
  return std::filesystem::path(GEM8_TEST_DATA) / "golden" / "models" / name;
}

Json raw_config(std::string_view name) {
  return *parse_json(*read_text_file(model(name) / "config.json"));
}

ModelConfig open(std::string_view name) {
  Result<ModelConfig> config = read_model_config(model(name));
  EXPECT_TRUE(config) << config.error().text();
  return config ? *std::move(config) : ModelConfig{};
}

std::vector<int> full_layers(const TextConfig& text) {
  std::vector<int> indices;
  for (int i = 0; i < text.n_layers; ++i) {
    if (text.layers[static_cast<std::size_t>(i)].full) indices.push_back(i);
  }
  return indices;
}

void set_path(Json& root, std::string_view path, std::optional<Json> value) {
  Json* at = &root;
  for (std::size_t dot; (dot = path.find('.')) != std::string_view::npos;
       path.remove_prefix(dot + 1)) {
    at = at->find(path.substr(0, dot));
    ASSERT_NE(at, nullptr) << path;
  }
  if (value) return at->set(path, *std::move(value));
  std::erase_if(at->as_object(), [&](const JsonMember& member) { return member.key == path; });
}

// The geometry of golden/README-text.md's table.
TEST(ModelConfig, Tiny26b) {
  for (const std::string_view name :
       {"tiny-26b", "tiny-26b-sharded"}) {  // new and released key style
    const ModelConfig config = open(name);
    const TextConfig& text = config.text;
    EXPECT_EQ(config.model_type, "gemma4");
    EXPECT_FALSE(config.text_only_class);
    EXPECT_FALSE(config.unified);
    EXPECT_EQ(text.hidden, 80);
    EXPECT_EQ(text.vocab, 640);
    EXPECT_EQ(text.n_heads, 12);
    EXPECT_EQ(text.sliding_window, 12);
    EXPECT_EQ(text.global_head_dim, 32);
    EXPECT_THAT(full_layers(text), ElementsAre(3, 6));
    EXPECT_EQ(text.layers[0].head_dim, 16);
    EXPECT_EQ(text.layers[0].n_kv_heads, 6);
    EXPECT_TRUE(text.layers[0].has_v);
    EXPECT_EQ(text.layers[3].head_dim, 32);
    EXPECT_EQ(text.layers[3].n_kv_heads, 2);
    EXPECT_FALSE(text.layers[3].has_v);
    EXPECT_EQ(text.layers[3].mlp_width, 112);
    EXPECT_EQ(text.n_experts, 16);
    EXPECT_EQ(text.top_k_experts, 4);
    EXPECT_EQ(text.expert_ffn, 48);
    EXPECT_FALSE(text.has_per_layer_embeddings());
    EXPECT_EQ(text.bidirectional, BidirectionalAttention::kVision);
    EXPECT_EQ(text.final_logit_softcapping, 30.0f);
    EXPECT_EQ(text.rope_full.theta, 1e6);
    EXPECT_EQ(text.rope_full.partial_rotary_factor, 0.25);
    EXPECT_EQ(text.rope_sliding.theta, 1e4);
    EXPECT_EQ(text.rope_sliding.partial_rotary_factor, 1.0);
    EXPECT_THAT(config.eos_token_ids, ElementsAre(1, 106));
    EXPECT_EQ(config.tokens.image, 630);
    EXPECT_EQ(config.tokens.boi, 600);
    EXPECT_EQ(config.tokens.eoi, 632);
    EXPECT_EQ(config.tokens.eoa, 633);
    EXPECT_EQ(config.tokens.video, 634);
    ASSERT_TRUE(config.vision);
    EXPECT_EQ(config.vision->hidden, 48);
    EXPECT_EQ(config.vision->ffn, 64);
    EXPECT_EQ(config.vision->n_layers, 2);
    EXPECT_EQ(config.vision->n_heads, 3);
    EXPECT_EQ(config.vision->head_dim, 16);
    EXPECT_EQ(config.vision->position_embedding_size, 64);
    EXPECT_TRUE(config.vision->standardize);
    EXPECT_EQ(config.vision_soft_tokens_per_image, 280);
    EXPECT_FALSE(config.quantization);
  }
}

TEST(ModelConfig, Tiny31bHasZeroPaddedLayerKeys) {
  const TextConfig text = open("tiny-31b").text;
  EXPECT_THAT(full_layers(text), ElementsAre(5, 11));
  EXPECT_EQ(text.layers[5].head_dim, 48);
  EXPECT_EQ(text.layers[5].n_kv_heads, 2);
  EXPECT_FALSE(text.layers[5].has_v);
  EXPECT_EQ(text.layers[4].n_kv_heads, 4);
  EXPECT_EQ(text.sliding_window, 9);
  EXPECT_FALSE(text.has_experts());
}

TEST(ModelConfig, TinyE2bSharesAndDoubles) {
  const TextConfig text = open("tiny-e2b").text;
  EXPECT_EQ(text.per_layer_hidden, 32);
  EXPECT_EQ(text.per_layer_vocab, 640);
  EXPECT_EQ(text.first_kv_shared(), 5);
  EXPECT_FALSE(text.layers[4].kv_shared);
  EXPECT_EQ(text.layers[4].kv_source, 4);
  EXPECT_EQ(text.layers[4].mlp_width, 96);
  EXPECT_TRUE(text.layers[5].kv_shared);
  EXPECT_EQ(text.layers[5].kv_source, 3);
  EXPECT_EQ(text.layers[9].kv_source, 4);
  EXPECT_EQ(text.layers[9].mlp_width, 192);
  EXPECT_TRUE(text.layers[9].has_v);
  EXPECT_EQ(text.layers[9].n_kv_heads, 1);
  EXPECT_EQ(text.bidirectional, BidirectionalAttention::kNone);
}

TEST(ModelConfig, TinyE4b) {
  const TextConfig text = open("tiny-e4b").text;
  EXPECT_EQ(text.per_layer_hidden, 16);
  EXPECT_EQ(text.first_kv_shared(), 8);
  EXPECT_EQ(text.layers[8].kv_source, 7);
  EXPECT_EQ(text.layers[11].kv_source, 5);
  EXPECT_EQ(text.layers[11].mlp_width, 112);
  EXPECT_EQ(text.layers[11].head_dim, 64);
}

TEST(ModelConfig, Tiny12bIsUnifiedWithoutPerLayerEmbeddings) {
  const ModelConfig config = open("tiny-12b");
  EXPECT_TRUE(config.unified);
  EXPECT_FALSE(config.text.has_per_layer_embeddings());  // the key is absent: 0 here, 256 elsewhere
  EXPECT_EQ(config.text.layers[5].n_kv_heads, 1);
  EXPECT_EQ(config.text.layers[5].head_dim, 32);
  EXPECT_THAT(full_layers(config.text), ElementsAre(5));
  EXPECT_FALSE(config.vision);
  EXPECT_THAT(config.eos_token_ids, ElementsAre(1));  // none at top level
}

TEST(ModelConfig, TextOnlyClass) {
  const ModelConfig config = open("text-only");
  EXPECT_TRUE(config.text_only_class);
  EXPECT_EQ(config.text.hidden, 96);
  EXPECT_EQ(config.text.layers[5].head_dim, 48);
  EXPECT_EQ(config.text.layers[5].n_kv_heads, 2);
  EXPECT_TRUE(config.text.layers[5].has_v);
  EXPECT_EQ(config.tokens.image, std::nullopt);
}

TEST(ModelConfig, Wide26bAndVisionModels) {
  const TextConfig wide = open("wide-26b").text;
  EXPECT_EQ(wide.n_experts, 128);
  EXPECT_EQ(wide.layers[2].head_dim, 512);
  EXPECT_EQ(wide.layers[2].n_kv_heads, 1);
  EXPECT_EQ(wide.sliding_window, 1024);
  const ModelConfig clipped = open("tiny-vision-e");
  EXPECT_TRUE(clipped.vision->use_clipped_linears);
  EXPECT_FALSE(clipped.vision->standardize);
  EXPECT_EQ(clipped.text.per_layer_hidden, 6);
  EXPECT_FALSE(open("tiny-vision").vision->use_clipped_linears);
}

TEST(ModelConfig, DefaultsOfAnAlmostEmptyConfig) {
  const Result<ModelConfig> config = parse_model_config(
      *parse_json(R"({"model_type":"gemma4","text_config":{"num_hidden_layers":8}})"));
  ASSERT_TRUE(config) << config.error().text();
  const TextConfig& text = config->text;
  EXPECT_EQ(text.vocab, 262144);
  EXPECT_EQ(text.hidden, 2304);
  EXPECT_EQ(text.ffn, 9216);
  EXPECT_EQ(text.sliding_window, 512);
  EXPECT_EQ(text.max_position_embeddings, 131072);
  EXPECT_EQ(text.per_layer_hidden, 256);
  EXPECT_EQ(text.per_layer_vocab, 262144);
  EXPECT_EQ(text.bidirectional, BidirectionalAttention::kNone);
  EXPECT_EQ(text.final_logit_softcapping, std::nullopt);
  EXPECT_THAT(full_layers(text), ElementsAre(5, 7));  // every sixth, and the last whatever it is
  EXPECT_EQ(text.layers[5].head_dim, 512);
  EXPECT_EQ(text.layers[5].n_kv_heads, 4);
  EXPECT_EQ(text.rope_full.partial_rotary_factor, 0.25);
  EXPECT_TRUE(config->tie_word_embeddings);
  EXPECT_EQ(config->tokens.image, 258880);
  EXPECT_THAT(config->eos_token_ids, ElementsAre(1));

  const Result<ModelConfig> unified =
      parse_model_config(*parse_json(R"({"model_type":"gemma4_unified","text_config":{}})"));
  ASSERT_TRUE(unified) << unified.error().text();
  EXPECT_EQ(unified->text.per_layer_hidden, 0);
  EXPECT_EQ(unified->text.sliding_window, 1024);
  EXPECT_EQ(unified->text.max_position_embeddings, 262144);
  EXPECT_EQ(unified->text.bidirectional, BidirectionalAttention::kVision);
  EXPECT_EQ(unified->text.n_layers, 30);
}

struct Variant {
  std::string name;
  std::vector<std::pair<std::string, std::string>> edits;  ///< path, JSON text; empty text removes
  std::function<bool(const ModelConfig&)> holds;
};

TEST(ModelConfig, VariantsOfTheReleasedStyle) {
  const Variant variants[] = {
      {"per-layer null disables",
       {{"text_config.hidden_size_per_layer_input", "null"}},
       [](const ModelConfig& c) { return !c.text.has_per_layer_embeddings(); }},
      {"per-layer absent is 256",
       {{"text_config.hidden_size_per_layer_input", ""}},
       [](const ModelConfig& c) { return c.text.per_layer_hidden == 256; }},
      {"global head_dim 0 falls back",
       {{"text_config.global_head_dim", "0"}},
       [](const ModelConfig& c) { return c.text.layers[3].head_dim == 16; }},
      {"global head_dim null falls back",
       {{"text_config.global_head_dim", "null"}},
       [](const ModelConfig& c) { return c.text.layers[3].head_dim == 16; }},
      {"global head_dim absent is 512",
       {{"text_config.global_head_dim", ""}},
       [](const ModelConfig& c) { return c.text.layers[3].head_dim == 512; }},
      {"global kv heads null",
       {{"text_config.num_global_key_value_heads", "null"}},
       [](const ModelConfig& c) { return c.text.layers[3].n_kv_heads == 6; }},
      {"global kv heads without k_eq_v",
       {{"text_config.attention_k_eq_v", "false"}},
       [](const ModelConfig& c) {
         return c.text.layers[3].n_kv_heads == 6 && c.text.layers[3].has_v;
       }},
      {"per_layer_config wins",
       {{"text_config.per_layer_config", R"({"03":{"head_dim":64}})"}},
       [](const ModelConfig& c) {
         return c.text.layers[3].head_dim == 64 && c.text.layers[3].n_kv_heads == 2 &&
                c.text.layers[6].head_dim == 32;
       }},
      {"last layer forced full",
       {{"text_config.num_hidden_layers", "2"},
        {"text_config.layer_types", R"(["full_attention","sliding_attention"])"}},
       [](const ModelConfig& c) { return c.text.layers[1].full; }},
      {"pre-release names",
       {{"text_config.enable_moe_block", ""},
        {"text_config.use_second_mlp_block", "true"},
        {"text_config.moe_intermediate_size", "null"},
        {"text_config.expert_intermediate_size", "40"}},
       [](const ModelConfig& c) { return c.text.expert_ffn == 40 && c.text.n_experts == 16; }},
      {"dense leaves expert keys alone",
       {{"text_config.enable_moe_block", "false"}},
       [](const ModelConfig& c) { return !c.text.has_experts() && c.text.expert_ffn == 0; }},
      {"all attends to all",
       {{"text_config.use_bidirectional_attention", "\"all\""}},
       [](const ModelConfig& c) {
         return c.text.bidirectional == BidirectionalAttention::kAll && c.text.sliding_window == 7;
       }},
      {"default rope of one type",
       {{"text_config.rope_parameters", R"({"sliding_attention":{"rope_theta":5e3}})"}},
       [](const ModelConfig& c) {
         return c.text.rope_sliding.theta == 5000.0 &&
                c.text.rope_full.partial_rotary_factor == 0.25;
       }},
      {"rope factor",
       {{"text_config.rope_parameters",
         R"({"full_attention":{"rope_type":"proportional","rope_theta":1e6,"factor":8.0}})"}},
       [](const ModelConfig& c) {
         return c.text.rope_full.factor == 8.0 && c.text.rope_full.partial_rotary_factor == 1.0;
       }},
      {"untied",
       {{"tie_word_embeddings", "false"}},
       [](const ModelConfig& c) { return !c.tie_word_embeddings && !c.text.tie_word_embeddings; }},
      {"vision null", {{"vision_config", "null"}}, [](const ModelConfig& c) { return !c.vision; }},
      {"image id null",
       {{"image_token_id", "null"}},
       [](const ModelConfig& c) { return !c.tokens.image; }},
      {"image id absent in a small vocabulary",
       {{"image_token_id", ""}},
       [](const ModelConfig& c) { return !c.tokens.image; }},
      {"old name of the audio end",
       {{"eoa_token_index", ""}, {"eoa_token_id", "599"}},
       [](const ModelConfig& c) { return c.tokens.eoa == 599; }},
      {"no cap",
       {{"text_config.final_logit_softcapping", "null"}},
       [](const ModelConfig& c) { return !c.text.final_logit_softcapping; }},
      {"unknown quantisation is kept",
       {{"quantization_config", R"({"quant_method":"gguf"})"}},
       [](const ModelConfig& c) {
         return c.quantization->method == QuantMethod::kUnknown &&
                c.quantization->check_loadable().error().code == Code::kUnsupported;
       }},
      {"quantisation in text_config",
       {{"text_config.quantization_config",
         R"({"quant_method":"fp8","activation_scheme":"dynamic"})"}},
       [](const ModelConfig& c) {
         return c.quantization->activations == ActivationScheme::kDynamic &&
                !c.quantization_in_two_places;
       }},
      {"top level quantisation counts",
       {{"quantization_config", R"({"quant_method":"fp8","activation_scheme":"static"})"},
        {"text_config.quantization_config", R"({"quant_method":"gguf"})"}},
       [](const ModelConfig& c) {
         return c.quantization->activations == ActivationScheme::kStatic &&
                c.quantization_in_two_places;
       }},
  };
  for (const Variant& variant : variants) {
    SCOPED_TRACE(variant.name);
    Json raw = raw_config("tiny-26b-sharded");
    for (const auto& [path, text] : variant.edits) {
      set_path(raw, path, text.empty() ? std::nullopt : std::optional<Json>(*parse_json(text)));
    }
    const Result<ModelConfig> config = parse_model_config(raw);
    ASSERT_TRUE(config) << config.error().text();
    EXPECT_TRUE(variant.holds(*config));
    EXPECT_EQ(config->raw, raw);  // what was read is what can be written back
  }
}

struct Bad {
  std::string path;
  std::string value;  ///< JSON text; empty removes the member
  Code code;
  std::string says;
};

TEST(ModelConfig, RefusesByName) {
  const Bad bad[] = {
      {"model_type", "", Code::kCorrupt, "'model_type' is missing"},
      {"model_type", "7", Code::kCorrupt, "'model_type': found integer"},
      {"model_type", "\"llama\"", Code::kUnsupported, "'llama'"},
      {"model_type", "\"gemma4_assistant\"", Code::kUnsupported, "'gemma4_assistant'"},
      {"architectures", "\"x\"", Code::kCorrupt, "'architectures'"},
      {"architectures", "[1]", Code::kCorrupt, "'architectures'"},
      {"architectures", "[\"LlamaForCausalLM\"]", Code::kUnsupported, "'LlamaForCausalLM'"},
      {"text_config", "", Code::kCorrupt, "'text_config' is missing"},
      {"text_config", "[]", Code::kCorrupt, "'text_config': found array"},
      {"text_config.vocab_size", "0", Code::kCorrupt, "'vocab_size' is 0"},
      {"text_config.vocab_size", "9e9", Code::kCorrupt, "'vocab_size': found number"},
      {"text_config.vocab_size", "99999999999999999999", Code::kCorrupt, "'vocab_size'"},
      {"text_config.hidden_size", "\"80\"", Code::kCorrupt, "'hidden_size': found string"},
      {"text_config.hidden_size", "-80", Code::kCorrupt, "'hidden_size' is -80"},
      {"text_config.intermediate_size", "2147483648", Code::kCorrupt, "'intermediate_size'"},
      {"text_config.num_hidden_layers", "2000000000", Code::kCorrupt, "'num_hidden_layers'"},
      {"text_config.num_hidden_layers", "8", Code::kCorrupt, "'layer_types' has 7 entries"},
      {"text_config.num_attention_heads", "13", Code::kCorrupt, "13 query heads"},
      {"text_config.num_key_value_heads", "0", Code::kCorrupt, "'num_key_value_heads'"},
      {"text_config.num_key_value_heads", "5", Code::kCorrupt, "layer 0"},
      {"text_config.head_dim", "15", Code::kCorrupt, "odd"},
      {"text_config.global_head_dim", "-1", Code::kCorrupt, "'global_head_dim'"},
      {"text_config.num_global_key_value_heads", "true", Code::kCorrupt, "found boolean"},
      {"text_config.attention_k_eq_v", "1", Code::kCorrupt, "'attention_k_eq_v': found integer"},
      {"text_config.hidden_activation", "\"silu\"", Code::kUnsupported, "'silu'"},
      {"text_config.attention_bias", "true", Code::kUnsupported, "'attention_bias'"},
      {"text_config.rms_norm_eps", "0", Code::kCorrupt, "'rms_norm_eps' is 0"},
      {"text_config.rms_norm_eps", "\"x\"", Code::kCorrupt, "'rms_norm_eps': found string"},
      {"text_config.rms_norm_eps", "1e999", Code::kCorrupt, "'rms_norm_eps'"},
      {"text_config.pad_token_id", "640", Code::kCorrupt, "'pad_token_id' is 640"},
      {"text_config.bos_token_id", "640", Code::kCorrupt, "'bos_token_id' is 640"},
      {"text_config.pad_token_id", "-1", Code::kCorrupt, "'pad_token_id' is -1"},
      {"text_config.eos_token_id", "[1,\"x\"]", Code::kCorrupt, "'eos_token_id'"},
      {"text_config.eos_token_id", "{}", Code::kCorrupt, "'eos_token_id'"},
      {"eos_token_id", "[-1]", Code::kCorrupt, "'eos_token_id'"},
      {"text_config.rope_parameters", "[]", Code::kCorrupt, "'rope_parameters'"},
      {"text_config.rope_parameters", R"({"rope_theta":1e4})", Code::kUnsupported,
       "one per layer type"},
      {"text_config.rope_parameters", R"({"full_attention":{"rope_type":"yarn"}})",
       Code::kUnsupported, "'yarn'"},
      {"text_config.rope_parameters", R"({"full_attention":{"rope_theta":-1.0}})", Code::kCorrupt,
       "rope_theta -1"},
      {"text_config.rope_parameters",
       R"({"full_attention":{"rope_type":"proportional","partial_rotary_factor":2.0}})",
       Code::kCorrupt, "partial_rotary_factor 2"},
      {"text_config.rope_parameters",
       R"({"full_attention":{"rope_type":"default","partial_rotary_factor":0.5}})",
       Code::kUnsupported, "proportional"},
      {"text_config.rope_parameters", R"({"full_attention":{"rope_theta":"x"}})", Code::kCorrupt,
       "'rope_theta': found string"},
      {"text_config.sliding_window", "0", Code::kCorrupt, "'sliding_window'"},
      {"text_config.layer_types", R"(["full_attention"])", Code::kCorrupt,
       "'layer_types' has 1 entries"},
      {"text_config.layer_types", "{}", Code::kCorrupt, "'layer_types': found object"},
      {"text_config.layer_types", R"([1,2,3,4,5,6,7])", Code::kCorrupt, "'layer_types' entry 0"},
      {"text_config.layer_types", R"(["chunked_attention","a","a","a","a","a","a"])",
       Code::kUnsupported, "'chunked_attention'"},
      {"text_config.final_logit_softcapping", "-30.0", Code::kCorrupt,
       "'final_logit_softcapping' is -30"},
      {"text_config.use_bidirectional_attention", "\"some\"", Code::kUnsupported, "'some'"},
      {"text_config.use_bidirectional_attention", "true", Code::kCorrupt,
       "'use_bidirectional_attention'"},
      {"text_config.hidden_size_per_layer_input", "-1", Code::kCorrupt,
       "'hidden_size_per_layer_input'"},
      {"text_config.num_kv_shared_layers", "8", Code::kCorrupt, "'num_kv_shared_layers' is 8"},
      {"text_config.num_kv_shared_layers", "7", Code::kUnsupported, "drafter"},
      {"text_config.num_kv_shared_layers", "5", Code::kCorrupt, "layer 3 shares K/V"},
      {"text_config.use_double_wide_mlp", "\"yes\"", Code::kCorrupt, "'use_double_wide_mlp'"},
      {"text_config.enable_moe_block", "\"yes\"", Code::kCorrupt, "'enable_moe_block'"},
      {"text_config.num_experts", "null", Code::kCorrupt, "'num_experts' is missing"},
      {"text_config.num_experts", "1000000", Code::kCorrupt, "'num_experts'"},
      {"text_config.top_k_experts", "17", Code::kCorrupt, "'top_k_experts' is 17, wanted 1 to 16"},
      {"text_config.moe_intermediate_size", "", Code::kCorrupt,
       "'moe_intermediate_size' is missing"},
      {"text_config.per_layer_config", "[]", Code::kCorrupt, "'per_layer_config'"},
      {"text_config.per_layer_config", R"({"7":{}})", Code::kCorrupt, "key '7'"},
      {"text_config.per_layer_config", R"({"x":{}})", Code::kCorrupt, "key 'x'"},
      {"text_config.per_layer_config", R"({"3x":{}})", Code::kCorrupt, "key '3x'"},
      {"text_config.per_layer_config", R"({"3":{},"03":{}})", Code::kCorrupt, "layer 3 twice"},
      {"text_config.per_layer_config", R"({"3":1})", Code::kCorrupt, "layer 3: found integer"},
      {"text_config.per_layer_config", R"({"3":{"head_dim":"32"}})", Code::kCorrupt,
       "'head_dim': found string"},
      {"text_config.per_layer_config", R"({"3":{"hidden_size":32}})", Code::kUnsupported,
       "'hidden_size'"},
      {"text_config.quantization_config", "1", Code::kCorrupt,
       "quantization_config: found integer"},
      {"quantization_config", "{}", Code::kCorrupt, "'quant_method' is missing"},
      {"image_token_id", "640", Code::kCorrupt, "'image_token_id' is 640, wanted 0 to 639"},
      {"image_token_id", "\"x\"", Code::kCorrupt, "'image_token_id': found string"},
      {"vision_soft_tokens_per_image", "0", Code::kCorrupt, "'vision_soft_tokens_per_image'"},
      {"tie_word_embeddings", "0", Code::kCorrupt, "'tie_word_embeddings'"},
      {"audio_config", "[]", Code::kCorrupt, "'audio_config'"},
      {"vision_config", "7", Code::kCorrupt, "'vision_config'"},
      {"vision_config.model_type", "\"siglip\"", Code::kUnsupported, "'siglip'"},
      {"vision_config.hidden_size", "", Code::kCorrupt, "vision_config: 'hidden_size' is missing"},
      {"vision_config.num_key_value_heads", "1", Code::kUnsupported, "1 key-value heads"},
      {"vision_config.head_dim", "18", Code::kCorrupt, "'head_dim' is 18"},
      {"vision_config.attention_bias", "true", Code::kUnsupported, "'attention_bias'"},
      {"vision_config.hidden_activation", "\"relu\"", Code::kUnsupported, "'relu'"},
      {"vision_config.rope_parameters", R"({"rope_type":"yarn"})", Code::kUnsupported, "'yarn'"},
      {"vision_config.rope_parameters", R"({"rope_theta":0})", Code::kCorrupt, "'rope_theta' is 0"},
      {"vision_config.rms_norm_eps", "2", Code::kCorrupt, "'rms_norm_eps' is 2"},
      {"vision_config.patch_size", "0", Code::kCorrupt, "'patch_size' is 0"},
  };
  for (const Bad& item : bad) {
    SCOPED_TRACE(item.path + " = " + item.value);
    Json raw = raw_config("tiny-26b-sharded");
    set_path(raw, item.path,
             item.value.empty() ? std::nullopt : std::optional<Json>(*parse_json(item.value)));
    const Result<ModelConfig> config = parse_model_config(std::move(raw));
    ASSERT_FALSE(config);
    EXPECT_EQ(config.error().code, item.code) << config.error().text();
    EXPECT_THAT(config.error().text(), HasSubstr(item.says));
  }
}

TEST(ModelConfig, FileProblems) {
  EXPECT_EQ(read_model_config("/nonexistent").error().code, Code::kNotFound);
  EXPECT_EQ(parse_model_config(Json(1)).error().code, Code::kCorrupt);
}

}  // namespace
}  // namespace gem8
