#include "server/app/flags.h"

#include <gtest/gtest.h>

#include <sstream>

namespace gem8::app {
namespace {

std::vector<std::string> words(const std::string& line) {
  std::istringstream in(line);
  return {std::istream_iterator<std::string>(in), {}};
}

ServeFlags parsed(const std::string& line) {
  auto flags = parse_serve_flags(words(line));
  EXPECT_TRUE(flags) << flags.error().text();
  return flags.value_or(ServeFlags{});
}

Error refused(const std::string& line) {
  const auto flags = parse_serve_flags(words(line));
  EXPECT_FALSE(flags) << line;
  return flags ? Error{} : flags.error();
}

TEST(ServeFlags, Images) {
  const ServeFlags flags =
      parsed(R"(m --limit-mm-per-prompt {"image":4} --mm-processor-kwargs {"max_soft_tokens":560} )"
             "--allowed-media-domains a.example b.example --allowed-local-media-path /pictures "
             "--alpha drop");
  EXPECT_EQ(flags.max_images, 4u);
  EXPECT_EQ(flags.soft_tokens, 560);
  EXPECT_EQ(flags.allowed_media_domains, (std::vector<std::string>{"a.example", "b.example"}));
  EXPECT_EQ(flags.allowed_local_media_path, "/pictures");
  EXPECT_EQ(flags.alpha, AlphaPolicy::kDrop);
  EXPECT_EQ(parsed("m --limit-mm-per-prompt image=2,video=0").max_images, 2u);
  EXPECT_EQ(parsed("m --language-model-only").max_images, 0u);
  EXPECT_EQ(parsed("m").max_images, std::nullopt);
  for (const char* line : {"m --limit-mm-per-prompt {", "m --limit-mm-per-prompt {\"image\":-1}",
                           "m --mm-processor-kwargs {\"max_soft_tokens\":71}", "m --alpha black"}) {
    EXPECT_EQ(refused(line).code, Code::kInvalidArgument) << line;
  }
}

TEST(ServeFlags, TheReferenceCommand) {
  const ServeFlags flags = parsed(
      "--model /models/gemma-4-26B-A4B-it --served-model-name gemma --tensor-parallel-size 1 "
      "--max-model-len 131072 "
      "--gpu-memory-utilization 0.95 --enable-chunked-prefill --max-num-batched-tokens 8192 "
      "--enable-auto-tool-choice "
      "--tool-call-parser gemma4 --reasoning-parser gemma4 --port 8080");
  EXPECT_EQ(flags.model, "/models/gemma-4-26B-A4B-it");
  EXPECT_EQ(flags.served_model_names, std::vector<std::string>{"gemma"});
  EXPECT_EQ(flags.max_model_len, 131072);
  EXPECT_EQ(flags.gpu_memory_utilization, 0.95);
  EXPECT_EQ(flags.max_num_batched_tokens, 8192);
  EXPECT_EQ(flags.port, 8080);
}

TEST(ServeFlags, Spellings) {
  EXPECT_EQ(parsed("x --max_model_len=4096").max_model_len, 4096);
  EXPECT_EQ(parsed("x --max-model-len 32k").max_model_len, 32000);
  EXPECT_EQ(parsed("x --max-model-len 32K").max_model_len, 32768);
  EXPECT_EQ(parsed("x --max-model-len 25.6k").max_model_len, 25600);
  EXPECT_EQ(parsed("x --max-model-len -1").max_model_len, -1);
  EXPECT_EQ(parsed("x --max-model-len auto").max_model_len, -1);
  EXPECT_EQ(parsed("x -tp 1 -tp=1").model, "x");
  EXPECT_EQ(parsed("x --data-parallel-size-local 1").model, "x");
  EXPECT_EQ(parsed("x --api-key a b --port 1").api_keys, (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(parsed("--port 1 x --port 2").port, 2);
  EXPECT_TRUE(parsed("x --no-enable-chunked-prefill").notes.size() == 1);
  EXPECT_FALSE(parsed("x --disable-uvicorn-access-log").access_log);
  EXPECT_TRUE(parsed("x --no-disable-uvicorn-access-log").access_log);
}

TEST(ServeFlags, Quantization) {
  EXPECT_EQ(parsed("x").quantization, "");
  EXPECT_EQ(parsed("x --quantization fp8").quantization, "fp8");
  EXPECT_EQ(parsed("x -q compressed-tensors").quantization, "compressed-tensors");
  EXPECT_EQ(refused("x --quantization fp8 --quantization awq").code, Code::kUnsupported);
}

TEST(ServeFlags, JsonValues) {
  const std::vector<std::string> given = {"x", "--allowed-origins", R"(["*"])",
                                          "--default-chat-template-kwargs",
                                          R"({"enable_thinking": true})"};
  const auto flags = parse_serve_flags(given);
  ASSERT_TRUE(flags);
  EXPECT_EQ(flags->allowed_origins, std::vector<std::string>{"*"});
  EXPECT_TRUE(flags->default_template_kwargs.find("enable_thinking")->as_bool());
  EXPECT_EQ(refused("x --allowed-origins *").code, Code::kInvalidArgument);
}

TEST(ServeFlags, JsonInParts) {
  const ServeFlags flags = parsed(
      "x --override-generation-config.temperature 0.5 "
      "--override_generation_config.max_new_tokens=5 "
      "--default-chat-template-kwargs.enable_thinking true --default-chat-template-kwargs.a.b c "
      "--default-chat-template-kwargs.a.list+ 1 --default-chat-template-kwargs.a.list+ two "
      "--limit-mm-per-prompt.image 3 --mm-processor-kwargs.max_soft_tokens 560");
  EXPECT_EQ(to_text(flags.override_generation_config), R"({"temperature":0.5,"max_new_tokens":5})");
  EXPECT_EQ(to_text(flags.default_template_kwargs),
            R"({"enable_thinking":true,"a":{"b":"c","list":[1,"two"]}})");
  EXPECT_EQ(flags.max_images, 3u);
  EXPECT_EQ(flags.soft_tokens, 560);
  for (const char* line :
       {"x --override-generation-config.temperature", "x --override-generation-config. 5",
        "x --override-generation-config.a 1 --override-generation-config.a.b 2",
        "x --override-generation-config.a 1 --override-generation-config.a+ 2", "x --port.a 5",
        "x --disable-uvicorn-access-log.a", "x --overide-generation-config.a 1"}) {
    EXPECT_EQ(refused(line).code, Code::kInvalidArgument) << line;
  }
}

TEST(ServeFlags, WhatHasNoEffectIsSaidAndAccepted) {
  for (const char* line :
       {"x --swap-space 4", "x --disable-log-requests", "x --enforce-eager", "x --block-size 16",
        "x --trust-remote-code", "x --compilation-config.level 3", "x --hf-token", "x -O3"}) {
    EXPECT_EQ(parsed(line).notes.size(), 1u) << line;
  }
}

TEST(ServeFlags, UnknownFlagsNameTheNearest) {
  EXPECT_EQ(refused("x --max-modellen 5").code, Code::kInvalidArgument);
  EXPECT_NE(refused("x --max-modellen 5").message.find("--max-model-len"), std::string::npos);
  EXPECT_NE(refused("x --prot 5").message.find("--port"), std::string::npos);
  EXPECT_EQ(refused("x --no-port").code, Code::kInvalidArgument);
  EXPECT_EQ(refused("x -z").code, Code::kInvalidArgument);
}

TEST(ServeFlags, RefusedWithAReason) {
  for (const char* line :
       {"x --tensor-parallel-size 2", "x --tool-call-parser hermes",
        "x --reasoning-parser deepseek_r1", "x --dtype float16", "x --kv-cache-dtype fp8",
        "x --ssl-keyfile k", "x --enable-lora", "x --quantization awq", "x --uds /tmp/s"}) {
    EXPECT_EQ(refused(line).code, Code::kUnsupported) << line;
  }
}

TEST(ServeFlags, MalformedValues) {
  for (const char* line : {"x --port 99999", "x --port abc", "x --port", "x --max-num-seqs 0",
                           "x --gpu-memory-utilization 1.5", "x y", "x --enable-chunked-prefill=1",
                           "x --max-model-len 1", "x --max-model-len 5kk"}) {
    EXPECT_EQ(refused(line).code, Code::kInvalidArgument) << line;
  }
}

TEST(ServeFlags, UnknownOnesNameWhatIsNear) {
  EXPECT_NE(refused("x --max-modle-len 5").message.find("did you mean --max-model-len?"),
            std::string::npos);
  EXPECT_NE(refused("x --prot 5").message.find("did you mean --port?"), std::string::npos);
  EXPECT_EQ(refused("x --foo").message, "unknown flag --foo (see gem8 serve --help)");
}

}  // namespace
}  // namespace gem8::app
