// Status, error objects, headers: everything around an answer.
#include <gtest/gtest.h>

#include "tests/e2e/served.h"

namespace gem8::testing {
namespace {

class Routes : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    served = std::make_unique<Served>(
        std::vector<std::string>{"--served-model-name", "tiny", "alias", "some/one"});
  }
  static void TearDownTestSuite() { served.reset(); }
  static std::unique_ptr<Served> served;
};
std::unique_ptr<Served> Routes::served;

TEST_F(Routes, Operational) {
  HttpClient::Reply reply = served->ask("GET", "/health");
  EXPECT_EQ(reply.status, 200);
  EXPECT_EQ(reply.body, "");
  EXPECT_EQ(served->ask("POST", "/ping").status, 200);
  EXPECT_EQ(served->ask("GET", "/health/").status, 200);
  reply = served->ask("GET", "/version");
  EXPECT_TRUE(at(*parse_json(reply.body), "version").is_string());
  EXPECT_EQ(served->ask("GET", "/load").body, R"({"server_load":0})");
}

TEST_F(Routes, Models) {
  const Json models = *parse_json(served->ask("GET", "/v1/models").body);
  EXPECT_EQ(at(models, "object"), Json("list"));
  ASSERT_EQ(at(models, "data").as_array().size(), 3u);
  EXPECT_EQ(at(models, "data.0.id"), Json("tiny"));
  EXPECT_EQ(at(models, "data.1.id"), Json("alias"));
  EXPECT_EQ(at(models, "data.0.object"), Json("model"));
  EXPECT_EQ(at(models, "data.0.root"), Json(tiny_model().string()));
  EXPECT_EQ(at(models, "data.0.max_model_len"), Json(16384));
  EXPECT_TRUE(at(models, "data.0.created").is_int());
  EXPECT_EQ(at(*parse_json(served->ask("GET", "/v1/models/alias").body), "id"), Json("alias"));
  for (const char* path : {"/v1/models/some/one", "/v1/models/some%2Fone",
                           "/v1/models/%73ome%2fone", "http://localhost/v1/models/some/one"}) {
    EXPECT_EQ(at(*parse_json(served->ask("GET", path).body), "id"), Json("some/one")) << path;
  }
  for (const char* path : {"/v1/models/other", "/v1/models/%ff", "/v1/models/%00", "/v1/models/%zz",
                           "/v1/models/some%252Fone"}) {
    const HttpClient::Reply reply = served->ask("GET", path);
    EXPECT_EQ(reply.status, 404) << path;
    EXPECT_EQ(at(*parse_json(reply.body), "error.code"), Json(404)) << path;
  }
}

TEST_F(Routes, UnknownRouteAndWrongMethod) {
  HttpClient::Reply reply = served->ask("GET", "/nowhere");
  EXPECT_EQ(reply.status, 404);
  EXPECT_EQ(
      reply.body,
      R"({"error":{"message":"Not Found","type":"NotFoundError","param":null,"code":404},"detail":"Not Found"})");
  reply = served->ask("GET", "/v1/chat/completions");
  EXPECT_EQ(reply.status, 405);
  EXPECT_EQ(reply.header("allow"), "POST");
  EXPECT_EQ(at(*parse_json(reply.body), "detail"), Json("Method Not Allowed"));
  EXPECT_EQ(served->ask("DELETE", "/v1/models").header("allow"), "GET, HEAD");
}

TEST_F(Routes, HeadIsGetWithoutItsBody) {
  HttpClient client(served->port());
  for (const char* path : {"/health", "/v1/models", "/metrics", "/nowhere"}) {
    client.send(HttpClient::request("HEAD", path));
    HttpClient::Reply head;
    ASSERT_TRUE(client.read_head(head)) << path;
    const HttpClient::Reply whole = client.ask("GET", path);
    EXPECT_EQ(head.status, whole.status) << path;
    EXPECT_EQ(head.header("content-type"), whole.header("content-type")) << path;
    EXPECT_FALSE(head.header("content-length").empty()) << path;
  }
}

TEST_F(Routes, ExactErrorObjects) {
  const struct {
    const char* path;
    std::string body;
    const char* headers;
    int status;
    const char* error;
  } cases[] = {
      {"/v1/chat/completions", "{}", "", 400,
       R"({"error":{"message":"messages: field required","type":"Bad Request","param":"messages","code":400}})"},
      {"/v1/chat/completions", "{}", "Content-Type: text/plain\r\n", 400,
       R"({"error":{"message":"Unsupported Media Type: Only 'application/json' is allowed","type":"Bad Request","param":null,"code":400}})"},
      {"/v1/chat/completions", chat(R"("model":"x")"), "", 404,
       R"({"error":{"message":"The model `x` does not exist. Valid aliases: tiny, alias, some/one.","type":"NotFoundError","param":"model","code":404}})"},
      {"/v1/chat/completions", chat(R"("temperature":3)"), "", 400,
       R"({"error":{"message":"temperature must be in [0, 2], found 3","type":"BadRequestError","param":"temperature","code":400}})"},
      {"/v1/chat/completions", chat(R"("max_completion_tokens":99999)"), "", 400,
       R"({"error":{"message":"max_tokens=99999 cannot be greater than max_model_len=16384. Please request fewer output tokens.","type":"BadRequestError","param":"max_completion_tokens","code":400}})"},
      {"/v1/completions", R"({"prompt":[1404]})", "", 400,
       R"({"error":{"message":"Token id 1404 is out of vocabulary: ids are 0 to 1403","type":"BadRequestError","param":"prompt","code":400}})"},
  };
  for (const auto& test : cases) {
    const HttpClient::Reply reply = served->ask("POST", test.path, test.body, test.headers);
    EXPECT_EQ(reply.status, test.status) << test.body;
    EXPECT_EQ(reply.body, test.error);
  }
}

TEST_F(Routes, WrongValuesNameTheirField) {
  const struct {
    const char* members;
    const char* param;
  } cases[] = {
      {R"("top_p":0)", "top_p"},
      {R"("top_k":-5)", "top_k"},
      {R"("n":0)", "n"},
      {R"("n":2,"temperature":0)", "n"},
      {R"("presence_penalty":3)", "presence_penalty"},
      {R"("min_tokens":9,"max_tokens":5)", "min_tokens"},
      {R"("logit_bias":{"99999":1})", "logit_bias"},
      {R"("stop_token_ids":[-1])", "stop_token_ids"},
      {R"("allowed_token_ids":[106],"min_tokens":2,"max_tokens":5)", "allowed_token_ids"},
      {R"("stream":true,"allowed_token_ids":[1,106],"min_tokens":2,"max_tokens":5)",
       "allowed_token_ids"},
      {R"("repetition_penalty":1e-40)", "repetition_penalty"},
      {R"("stream":true,"temperature":"hot")", "temperature"},
      {R"("stream":true,"top_p":7)", "top_p"},
  };
  for (const auto& test : cases) {
    const HttpClient::Reply reply = served->ask("POST", "/v1/chat/completions", chat(test.members));
    EXPECT_EQ(reply.status, 400) << test.members;
    EXPECT_EQ(at(*parse_json(reply.body), "error.param"), Json(test.param)) << reply.body;
  }
}

TEST_F(Routes, BrokenBodies) {
  for (const std::string& body : {std::string("{"), std::string("[]"),
                                  std::string("{\"messages\":[\xff]}"), std::string(5000, '[')}) {
    const HttpClient::Reply reply = served->ask("POST", "/v1/chat/completions", body);
    EXPECT_EQ(reply.status, 400);
    EXPECT_EQ(at(*parse_json(reply.body), "error.code"), Json(400)) << reply.body;
  }
}

TEST_F(Routes, PromptsLongerThanTheContext) {
  std::string words;
  for (int i = 0; i < 20000; ++i) words += "cat ";
  const HttpClient::Reply reply = served->ask("POST", "/v1/chat/completions", chat("", words));
  EXPECT_EQ(reply.status, 400);
  const std::string message = at(*parse_json(reply.body), "error.message").as_string();
  EXPECT_NE(message.find("maximum context length is 16384 tokens"), std::string::npos) << message;
}

TEST_F(Routes, RequestIdsComeBack) {
  HttpClient::Reply reply = served->ask("POST", "/v1/chat/completions", chat(R"("max_tokens":1)"),
                                        "X-Request-Id: abc\r\n");
  EXPECT_EQ(reply.header("x-request-id"), "abc");
  EXPECT_EQ(at(*parse_json(reply.body), "id"), Json("chatcmpl-abc"));
  reply =
      served->ask("POST", "/v1/completions", R"({"prompt":"a","max_tokens":1,"request_id":"xyz"})");
  EXPECT_EQ(at(*parse_json(reply.body), "id"), Json("cmpl-xyz"));
  reply = served->ask("POST", "/v1/completions", R"({"prompt":"a","max_tokens":1})",
                      "X-Request-Id: a\xff b\r\n");
  EXPECT_EQ(at(*parse_json(reply.body), "id"), Json("cmpl-a__b"));
  EXPECT_EQ(served->ask("ET", "/v1/models").status, 405);
}

TEST_F(Routes, TokenizeAndBack) {
  const Json tokens =
      served->post("/tokenize", R"({"prompt":"The cat sat.","return_token_strs":true})");
  EXPECT_EQ(at(tokens, "count"), Json(at(tokens, "tokens").as_array().size()));
  EXPECT_EQ(at(tokens, "tokens.0"), Json(2));
  EXPECT_EQ(at(tokens, "token_strs.0"), Json("<bos>"));
  EXPECT_EQ(at(tokens, "max_model_len"), Json(16384));
  const Json bare =
      served->post("/tokenize", R"({"prompt":"The cat sat.","add_special_tokens":false})");
  const Json text =
      served->post("/detokenize", to_text(Json::object({{"tokens", at(bare, "tokens")}})));
  EXPECT_EQ(to_text(text), R"({"prompt":"The cat sat."})");
  const Json in_chat =
      served->post("/tokenize", R"({"messages":[{"role":"user","content":"The cat sat."}]})");
  EXPECT_GT(at(in_chat, "count").as_int(), at(tokens, "count").as_int());
  EXPECT_EQ(served->ask("POST", "/detokenize", R"({"tokens":[99999]})").status, 400);
}

TEST_F(Routes, MetricsHaveTheirNames) {
  served->post("/v1/chat/completions", chat(R"("max_tokens":3)"));
  const HttpClient::Reply reply = served->ask("GET", "/metrics");
  EXPECT_EQ(reply.header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
  for (const char* name :
       {"vllm:num_requests_running", "vllm:num_requests_waiting", "vllm:kv_cache_usage_perc",
        "vllm:prompt_tokens_total", "vllm:generation_tokens_total", "vllm:request_success_total",
        "vllm:time_to_first_token_seconds_bucket", "vllm:inter_token_latency_seconds_sum",
        "vllm:e2e_request_latency_seconds_count"}) {
    EXPECT_NE(reply.body.find(std::string("\n") + name + "{"), std::string::npos) << name;
  }
}

TEST_F(Routes, MethodsThatAreNoneShareASeries) {
  const std::string other = R"(http_requests_total{handler="none",method="other",status="4xx"})";
  EXPECT_EQ(served->ask("WHATEVER", "/nowhere").status, 404);
  EXPECT_EQ(served->ask("get", "/nowhere").status, 404);
  EXPECT_EQ(served->metric(other), 2.0);
  EXPECT_EQ(served->ask("GET", "/metrics").body.find("WHATEVER"), std::string::npos);
}

TEST_F(Routes, BrowsersNeedTheFlag) {
  const HttpClient::Reply reply = served->ask(
      "OPTIONS", "/v1/models", {}, "Origin: http://a\r\nAccess-Control-Request-Method: GET\r\n");
  EXPECT_EQ(reply.status, 400);
  EXPECT_EQ(reply.body, "Disallowed CORS origin");
}

TEST(RoutesWithFlags, KeysAndOrigins) {
  const Served served({"--api-key", "one", "two", "--allowed-origins", "[\"*\"]"});
  HttpClient::Reply reply = served.ask("GET", "/v1/models");
  EXPECT_EQ(reply.status, 401);
  EXPECT_EQ(reply.header("www-authenticate"), "Bearer");
  EXPECT_EQ(
      reply.body,
      R"({"error":{"message":"Unauthorized","type":"AuthenticationError","param":null,"code":401}})");
  EXPECT_EQ(served.ask("GET", "/v1/models", {}, "Authorization: bearer two\r\n").status, 200);
  EXPECT_EQ(served.ask("GET", "/v1/models", {}, "Authorization: Bearer three\r\n").status, 401);
  EXPECT_EQ(served.ask("GET", "/v1/models", {}, "x-api-key: one\r\n").status, 200);
  EXPECT_EQ(served.ask("POST", "/tokenize", "{}").status, 401);
  EXPECT_EQ(served.ask("GET", "/health").status, 200);
  EXPECT_EQ(served.ask("GET", "/metrics").status, 200);
  reply = served.ask("OPTIONS", "/v1/models", {},
                     "Origin: http://a\r\nAccess-Control-Request-Method: GET\r\n");
  EXPECT_EQ(reply.status, 200);
  EXPECT_EQ(reply.header("access-control-allow-origin"), "*");
}

TEST(RoutesWithFlags, TemplateVariablesOfTheServer) {
  const Served served({"--default-chat-template-kwargs", R"({"enable_thinking":true})"});
  const auto n_tokens = [&](const char* members) {
    const std::string body = chat(members);
    const Json counted = at(served.post("/tokenize", body), "count");
    EXPECT_EQ(counted, at(served.post("/v1/chat/completions", body), "usage.prompt_tokens"));
    return counted.as_int();
  };
  EXPECT_GT(n_tokens(R"("max_tokens":1)"),
            n_tokens(R"("max_tokens":1,"chat_template_kwargs":{"enable_thinking":false})"));
}

TEST(RoutesWithFlags, WhatTheTemplateRefusesIsAWrongRequest) {
  const TemporaryFolder folder;
  const Served served(
      {"--chat-template",
       folder.write("picky.jinja",
                    "{% if messages[0].content == 'bad' %}{{ raise_exception('no') }}{% endif %}"
                    "{% for tool in tools or [] %}{% if tool.function.name == 'bad' %}"
                    "{{ raise_exception('no') }}{% endif %}{% endfor %}"
                    "{% if mood == 'bad' %}{{ raise_exception('no') }}{% endif %}"
                    "{% if messages[0].content == 'long' %}{{ 'x' * 1000000000 }}{% endif %}ok")});
  const std::string tool = R"("tools":[{"type":"function","function":{"name":"bad"}}])";
  const struct {
    std::string body;
    const char* param;
  } cases[] = {
      {chat("", "bad"), "messages"},
      {chat(tool, "x"), "tools"},
      {chat(R"("chat_template_kwargs":{"mood":"bad"})", "x"), "chat_template_kwargs"},
      {chat(R"("chat_template_kwargs":{"bos_token":"x"})", "x"), "chat_template_kwargs"},
      {chat("", "long"), "messages"},  // and no 503: it would be as long the next time
  };
  for (const auto& test : cases) {
    for (const char* path : {"/v1/chat/completions", "/tokenize"}) {
      const HttpClient::Reply reply = served.ask("POST", path, test.body);
      EXPECT_EQ(reply.status, 400) << test.body;
      EXPECT_EQ(reply.header("retry-after"), "") << test.body;
      EXPECT_EQ(at(*parse_json(reply.body), "error.param"), Json(test.param)) << reply.body;
    }
  }
  EXPECT_EQ(served.ask("POST", "/tokenize", chat("", "good")).status, 200);
}

TEST(RoutesWithFlags, LongChatsHoldUpNobody) {
  const TemporaryFolder folder;
  const Served served(
      {"--chat-template",
       folder.write("slow.jinja",
                    "{% if messages[0].content != 'short' %}{% for a in range(2000) %}"
                    "{% for b in range(1000) %}{% endfor %}{% endfor %}"
                    "{{ raise_exception('long') }}{% endif %}x")});
  // Two, as many as there are I/O threads, each busy for a fifth of a second, or more.
  const std::string request =
      HttpClient::request("POST", "/v1/chat/completions", chat("", std::string(10'000, 'x')));
  HttpClient first(served.port()), second(served.port());
  first.send(request);
  second.send(request);
  const std::string refused =
      R"(http_requests_total{handler="/v1/chat/completions",method="POST",status="4xx"})";
  for (int i = 0; i < 3; ++i) {
    served.post("/v1/chat/completions", chat(R"("max_tokens":1)", "short"));
    ASSERT_EQ(served.metric(refused), -1.0) << "the long ones were answered before";
  }
  EXPECT_EQ(first.read_reply().status, 400);
  EXPECT_EQ(second.read_reply().status, 400);
  EXPECT_EQ(served.metric(refused), 2.0);
}

}  // namespace
}  // namespace gem8::testing
