#include "server/openai/chat_request.h"

#include <gtest/gtest.h>

#include "server/openai/completion_request.h"
#include "server/openai/error.h"

namespace gem8::openai {
namespace {

std::string with(std::string_view members) {
  return fmt::format(R"({{"messages":[{{"role":"user","content":"Hi"}}]{}{}}})",
                     members.empty() ? "" : ",", members);
}

ChatRequest parsed(const std::string& body, const GenerationDefaults& defaults = {}) {
  Result<ChatRequest> request = parse_chat_request(body, defaults);
  EXPECT_TRUE(request) << body << ": " << request.error().text();
  return request.value_or(ChatRequest{});
}

constexpr const char* kTool =
    R"("tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object"}}}])";

TEST(ChatRequest, TheLeastThatIsValid) {
  const ChatRequest request = parsed(
      with(""), {.temperature = 0.5, .top_k = 64, .max_new_tokens = {}, .most_new_tokens = {}});
  EXPECT_EQ(request.messages.as_array().size(), 1u);
  EXPECT_FLOAT_EQ(request.generation.sampling.temperature, 0.5f);
  EXPECT_EQ(request.generation.sampling.top_k, 64);
  EXPECT_EQ(request.generation.n, 1);
  EXPECT_FALSE(request.generation.stream);
  EXPECT_EQ(request.tool_choice, ToolChoice::kNone);
  EXPECT_FALSE(request.generation.max_tokens);
}

TEST(ChatRequest, NullIsAbsent) {
  const ChatRequest request = parsed(with(
      R"("stop":null,"tools":null,"tool_choice":null,"temperature":null,"n":null,"logit_bias":null,"stream":null,"stream_options":null,)"
      R"("response_format":null,"logprobs":null,"top_logprobs":null,"max_tokens":null,"seed":null,"user":null,"bad_words":null)"));
  EXPECT_FLOAT_EQ(request.generation.sampling.temperature, 1.0f);
}

TEST(ChatRequest, NumbersMayBeStringsOrIntegralFloats) {
  const ChatRequest request =
      parsed(with(R"("temperature":"0.25","top_k":5.0,"seed":"7","max_tokens":3.0)"));
  EXPECT_FLOAT_EQ(request.generation.sampling.temperature, 0.25f);
  EXPECT_EQ(request.generation.sampling.top_k, 5);
  EXPECT_EQ(request.generation.sampling.seed, 7u);
  EXPECT_TRUE(request.generation.has_seed);
  EXPECT_FALSE(parsed(with(R"("seed":-1)")).generation.has_seed);
}

TEST(ChatRequest, TokenLimits) {
  EXPECT_EQ(parsed(with(R"("max_tokens":50,"max_completion_tokens":3)")).generation.max_tokens, 3);
  EXPECT_EQ(
      parsed(with(R"("max_tokens":50,"max_completion_tokens":3)")).generation.max_tokens_field,
      "max_completion_tokens");
  EXPECT_EQ(parsed(with(R"("max_tokens":50)")).generation.max_tokens_field, "max_tokens");
}

TEST(ChatRequest, TheServerMayLimitTokens) {
  const GenerationDefaults habit{.max_new_tokens = 7};
  EXPECT_EQ(parsed(with(""), habit).generation.max_tokens, 7);
  EXPECT_EQ(parsed(with(R"("max_tokens":50)"), habit).generation.max_tokens, 50);
  const GenerationDefaults limit{.max_new_tokens = 7, .most_new_tokens = 7};
  EXPECT_EQ(parsed(with(""), limit).generation.max_tokens, 7);
  EXPECT_EQ(parsed(with(R"("max_tokens":50)"), limit).generation.max_tokens, 7);
  EXPECT_EQ(parsed(with(R"("max_completion_tokens":3)"), limit).generation.max_tokens, 3);
  EXPECT_EQ(parse_completion_request(R"({"prompt":"a"})", limit)->generation.max_tokens, 7);
  EXPECT_EQ(
      parse_completion_request(R"({"prompt":"a","max_tokens":50})", limit)->generation.max_tokens,
      7);
}

TEST(ChatRequest, ToolsAndThinking) {
  EXPECT_EQ(parsed(with(kTool)).tool_choice, ToolChoice::kAuto);
  EXPECT_EQ(parsed(with(std::string(kTool) + R"(,"tool_choice":"none")")).tool_choice,
            ToolChoice::kNone);
  EXPECT_TRUE(parsed(with(R"("reasoning_effort":"low")"))
                  .template_kwargs.find("enable_thinking")
                  ->as_bool());
  EXPECT_FALSE(parsed(with(R"("reasoning_effort":"none")"))
                   .template_kwargs.find("enable_thinking")
                   ->as_bool());
  EXPECT_TRUE(parsed(with(R"("reasoning":{"effort":"high"})"))
                  .template_kwargs.find("enable_thinking")
                  ->as_bool());
  EXPECT_TRUE(
      parsed(with(R"("reasoning_effort":"none","chat_template_kwargs":{"enable_thinking":true})"))
          .template_kwargs.find("enable_thinking")
          ->as_bool());
}

TEST(ChatRequest, ContentParts) {
  const ChatRequest request =
      parse_chat_request(
          R"({"messages":[{"role":"user","content":["a",{"text":"b"},{"type":"input_text","text":"c"},)"
          R"({"type":"image_url","image_url":{"url":"data:x"}},{"image_url":"http://y"}]}]})",
          {})
          .value();
  ASSERT_EQ(request.images.size(), 2u);
  EXPECT_EQ(request.images[0].part, 3u);
  EXPECT_EQ(request.images[0].url, "data:x");
  EXPECT_EQ(request.images[1].url, "http://y");
}

struct Bad {
  const char* members;
  const char* param;
  Code code;
};

class ChatRequestRefuses : public ::testing::TestWithParam<Bad> {};

TEST_P(ChatRequestRefuses, NamingTheField) {
  const Result<ChatRequest> request = parse_chat_request(with(GetParam().members), {});
  ASSERT_FALSE(request) << GetParam().members;
  EXPECT_EQ(request.error().code, GetParam().code) << request.error().text();
  EXPECT_EQ(request.error().context, GetParam().param) << request.error().text();
  EXPECT_EQ(api_error(request.error()).status, 400);
}

INSTANTIATE_TEST_SUITE_P(
    Fields, ChatRequestRefuses,
    ::testing::Values(
        Bad{R"("temperature":"hot")", "temperature", Code::kCorrupt},
        Bad{R"("temperature":[1])", "temperature", Code::kCorrupt},
        Bad{R"("top_k":5.5)", "top_k", Code::kCorrupt},
        Bad{R"("top_k":1e30)", "top_k", Code::kCorrupt},
        Bad{R"("stream":"yes")", "stream", Code::kCorrupt},
        Bad{R"("stop":5)", "stop", Code::kCorrupt},
        Bad{R"("stop":["a",5])", "stop", Code::kCorrupt},
        Bad{R"("stop":"")", "stop", Code::kInvalidArgument},
        Bad{R"("n":0)", "n", Code::kInvalidArgument},
        Bad{R"("n":2,"temperature":0)", "n", Code::kInvalidArgument},
        Bad{R"("max_tokens":0)", "max_tokens", Code::kInvalidArgument},
        Bad{R"("max_completion_tokens":-1)", "max_completion_tokens", Code::kInvalidArgument},
        Bad{R"("logit_bias":{"x":1})", "logit_bias", Code::kInvalidArgument},
        Bad{R"("logit_bias":[1])", "logit_bias", Code::kCorrupt},
        Bad{R"("top_logprobs":2)", "top_logprobs", Code::kInvalidArgument},
        Bad{R"("logprobs":true,"top_logprobs":21)", "top_logprobs", Code::kInvalidArgument},
        Bad{R"("stream_options":{"include_usage":true})", "stream_options", Code::kInvalidArgument},
        Bad{R"("tools":[])", "tools", Code::kInvalidArgument},
        Bad{R"("tools":[{"type":"function"}])", "tools", Code::kCorrupt},
        Bad{R"("tool_choice":"auto")", "tool_choice", Code::kInvalidArgument},
        Bad{R"("response_format":{"type":"json_object"})", "response_format", Code::kUnsupported},
        Bad{R"("response_format":"json")", "response_format", Code::kCorrupt},
        Bad{R"("guided_json":{"a":1})", "guided_json", Code::kUnsupported},
        Bad{R"("bad_words":["x"])", "bad_words", Code::kUnsupported},
        Bad{R"("use_beam_search":true)", "use_beam_search", Code::kUnsupported},
        Bad{R"("chat_template":"x")", "chat_template", Code::kUnsupported},
        Bad{R"("echo":true)", "echo", Code::kUnsupported},
        Bad{R"("chat_template_kwargs":{"chat_template":"x"})", "chat_template_kwargs",
            Code::kInvalidArgument},
        Bad{R"("chat_template_kwargs":5)", "chat_template_kwargs", Code::kCorrupt},
        Bad{R"("reasoning_effort":"lots")", "reasoning_effort", Code::kInvalidArgument},
        Bad{R"("allowed_token_ids":[])", "allowed_token_ids", Code::kInvalidArgument}));

TEST(ChatRequest, ToolChoicesThatAreNotThereYet) {
  for (const char* choice : {R"("required")", R"({"type":"function","function":{"name":"f"}})"}) {
    const auto request =
        parse_chat_request(with(fmt::format(R"({},"tool_choice":{})", kTool, choice)), {});
    ASSERT_FALSE(request);
    EXPECT_EQ(request.error().code, Code::kUnsupported);
    EXPECT_EQ(request.error().context, "tool_choice");
  }
}

TEST(ChatRequest, RefusesBodiesAndMessages) {
  const struct {
    const char* body;
    const char* param;
  } cases[] = {
      {"{", ""},
      {"[]", ""},
      {"{}", "messages"},
      {R"({"messages":[]})", "messages"},
      {R"({"messages":"hi"})", "messages"},
      {R"({"messages":[5]})", "messages"},
      {R"({"messages":[{"content":"x"}]})", "messages"},
      {R"({"messages":[{"role":"user","content":5}]})", "messages"},
      {R"({"messages":[{"role":"user","content":[{"type":"text"}]}]})", "messages"},
      {R"({"messages":[{"role":"user","content":[{"type":"input_audio","input_audio":{}}]}]})",
       "messages"},
      {R"({"messages":[{"role":"user","content":[{"type":"image_url"}]}]})", "messages"},
      {R"({"messages":[{"role":"assistant","tool_calls":5}]})", "messages"},
  };
  for (const auto& test : cases) {
    const auto request = parse_chat_request(test.body, {});
    ASSERT_FALSE(request) << test.body;
    EXPECT_EQ(request.error().context, test.param) << test.body;
    EXPECT_EQ(api_error(request.error()).status, 400);
  }
}

TEST(CompletionRequest, PromptsInAllForms) {
  EXPECT_EQ(parse_completion_request(R"({"prompt":"a"})", {})->prompts.size(), 1u);
  EXPECT_EQ(parse_completion_request(R"({"prompt":["a","b"]})", {})->prompts.size(), 2u);
  EXPECT_EQ(parse_completion_request(R"({"prompt":[1,2,3]})", {})->prompts.size(), 1u);
  EXPECT_EQ(parse_completion_request(R"({"prompt":[[1],[2,3]]})", {})->prompts.size(), 2u);
  EXPECT_EQ(parse_completion_request(R"({"prompt":"a"})", {})->generation.max_tokens, 16);
}

TEST(CompletionRequest, Refuses) {
  const struct {
    const char* body;
    const char* param;
  } cases[] = {
      {R"({})", "prompt"},
      {R"({"prompt":""})", "prompt"},
      {R"({"prompt":[]})", "prompt"},
      {R"({"prompt":5})", "prompt"},
      {R"({"prompt":[1,"a"]})", "prompt"},
      {R"({"prompt":[[]]})", "prompt"},
      {R"({"prompt":["a","b","c","d","e","f","g","h","i"],"n":128})", "n"},
      {R"({"prompt":"a","suffix":"b"})", "suffix"},
      {R"({"prompt":"a","best_of":2})", "best_of"},
      {R"({"prompt":"a","logprobs":true})", "logprobs"},
      {R"({"prompt":"a","logprobs":21})", "logprobs"},
      {R"({"prompt":"a","max_tokens":0})", "max_tokens"},
  };
  for (const auto& test : cases) {
    const auto request = parse_completion_request(test.body, {});
    ASSERT_FALSE(request) << test.body;
    EXPECT_EQ(request.error().context, test.param) << test.body;
  }
}

TEST(ApiError, OneBodyForAll) {
  EXPECT_EQ(to_text(error_body(api_error(Error{Code::kInvalidArgument, "no", "top_p"}))),
            R"({"error":{"message":"no","type":"BadRequestError","param":"top_p","code":400}})");
  EXPECT_EQ(
      to_text(error_body(api_error(Error{Code::kUnavailable, "busy", {}}))),
      R"({"error":{"message":"busy","type":"ServiceUnavailableError","param":null,"code":503}})");
  EXPECT_EQ(api_error(Error{Code::kNotFound, "x", {}}).status, 404);
  EXPECT_EQ(api_error(Error{Code::kInternal, "x", {}}).status, 500);
  EXPECT_EQ(api_error(Error{Code::kDeadline, "x", {}}).status, 504);
}

}  // namespace
}  // namespace gem8::openai
