// Answers, whole and streamed.
#include <gtest/gtest.h>

#include <chrono>
#include <fstream>
#include <iterator>
#include <set>

#include "tests/e2e/served.h"

namespace gem8::testing {
namespace {

using namespace std::chrono_literals;

class Answers : public ::testing::Test {
 protected:
  static void SetUpTestSuite() { served = std::make_unique<Served>(); }
  static void TearDownTestSuite() { served.reset(); }

  static Json ask(std::string_view members) {
    return served->post("/v1/chat/completions", chat(members));
  }
  static std::vector<Json> stream(std::string_view members) {
    return events_of(served->ask("POST", "/v1/chat/completions",
                                 chat(std::string(members) + R"(,"stream":true)")));
  }
  static std::string content(const Json& reply) {
    const Json text = at(reply, "choices.0.message.content");
    return text.is_string() ? text.as_string() : "";
  }

  static std::unique_ptr<Served> served;
};
std::unique_ptr<Served> Answers::served;

// No end token stops these: random weights would choose one sooner or later.
constexpr const char* kGreedy = R"("temperature":0,"ignore_eos":true,"max_tokens":24)";

TEST_F(Answers, TheWholeBody) {
  const Json reply = ask(R"("temperature":0,"ignore_eos":true,"max_tokens":5)");
  std::vector<std::string> keys;
  for (const JsonMember& member : reply.as_object()) keys.push_back(member.key);
  EXPECT_EQ(keys, (std::vector<std::string>{
                      "id", "object", "created", "model", "choices", "service_tier",
                      "system_fingerprint", "usage", "prompt_logprobs", "prompt_token_ids",
                      "prompt_text", "kv_transfer_params", "ec_transfer_params", "metrics"}));
  EXPECT_EQ(at(reply, "object"), Json("chat.completion"));
  EXPECT_EQ(at(reply, "model"), Json("tiny"));
  EXPECT_TRUE(at(reply, "id").as_string().starts_with("chatcmpl-"));
  EXPECT_EQ(at(reply, "choices.0.finish_reason"), Json("length"));
  EXPECT_EQ(at(reply, "choices.0.message.role"), Json("assistant"));
  EXPECT_EQ(at(reply, "choices.0.message").find("tool_calls"), nullptr);
  EXPECT_EQ(at(reply, "usage.completion_tokens"), Json(5));
  EXPECT_EQ(at(reply, "usage.total_tokens").as_int(),
            at(reply, "usage.prompt_tokens").as_int() + 5);
  EXPECT_EQ(at(reply, "usage.prompt_tokens_details.cached_tokens"), Json(0));
}

TEST_F(Answers, TheStream) {
  const std::vector<Json> events = stream(kGreedy);
  ASSERT_GE(events.size(), 3u);
  EXPECT_EQ(
      to_text(at(events[0], "choices")),
      R"([{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}])");
  int n_roles = 0;
  for (const Json& event : events) {
    EXPECT_EQ(at(event, "object"), Json("chat.completion.chunk"));
    EXPECT_EQ(at(event, "id"), at(events[0], "id"));
    EXPECT_EQ(event.find("usage"), nullptr);
    n_roles += at(event, "choices.0.delta").find("role") != nullptr;
  }
  EXPECT_EQ(n_roles, 1);
  EXPECT_EQ(at(events.back(), "choices.0.finish_reason"), Json("length"));
  EXPECT_TRUE(at(events.back(), "system_fingerprint").is_string());
  EXPECT_EQ(content_of(events), content(ask(kGreedy)));
}

TEST_F(Answers, UsageInStreams) {
  std::vector<Json> events =
      stream(std::string(kGreedy) + R"(,"stream_options":{"include_usage":true})");
  EXPECT_EQ(to_text(at(events.back(), "choices")), "[]");
  EXPECT_EQ(at(events.back(), "usage.completion_tokens"), Json(24));
  EXPECT_EQ(events[events.size() - 2].find("usage"), nullptr);
  events = stream(std::string(kGreedy) +
                  R"(,"stream_options":{"include_usage":true,"continuous_usage_stats":true})");
  std::int64_t last = 0;
  for (const Json& event : events) {
    ASSERT_TRUE(at(event, "usage.completion_tokens").is_int());
    EXPECT_GE(at(event, "usage.completion_tokens").as_int(), last);
    last = at(event, "usage.completion_tokens").as_int();
  }
  EXPECT_EQ(last, 24);
}

TEST_F(Answers, LimitsOnLength) {
  EXPECT_EQ(at(ask(R"("max_tokens":50,"max_completion_tokens":3,"ignore_eos":true)"),
               "usage.completion_tokens"),
            Json(3));
  EXPECT_EQ(at(ask(R"("max_tokens":64,"ignore_eos":true)"), "usage.completion_tokens"), Json(64));
  EXPECT_GE(at(ask(R"("max_tokens":64,"min_tokens":20)"), "usage.completion_tokens").as_int(), 20);
}

TEST_F(Answers, SeedsRepeatWithAndWithoutCompany) {
  const std::string members = R"("seed":7,"temperature":1.5,"ignore_eos":true,"max_tokens":40)";
  const std::string alone = content(ask(members));
  std::vector<std::unique_ptr<HttpClient>> clients;
  for (int i = 0; i < 12; ++i) {
    clients.push_back(std::make_unique<HttpClient>(served->port()));
    const std::string body =
        chat(i % 3 == 0 ? members : R"("temperature":1,"ignore_eos":true,"max_tokens":60)");
    clients.back()->send(HttpClient::request("POST", "/v1/chat/completions", body));
  }
  for (std::size_t i = 0; i < clients.size(); ++i) {
    const Json reply = *parse_json(clients[i]->read_reply().body);
    if (i % 3 == 0) {
      EXPECT_EQ(content(reply), alone);
    }
  }
  EXPECT_NE(content(ask(R"("seed":8,"temperature":1.5,"ignore_eos":true,"max_tokens":40)")), alone);
}

TEST_F(Answers, EqualPromptsOfOneRequestDiffer) {
  const std::string members =
      R"("prompt":["The cat","The cat"],"temperature":2,"top_k":0,"top_p":1,"ignore_eos":true,"max_tokens":24)";
  const auto texts = [&](const std::string& body) {
    const Json reply = served->post("/v1/completions", body);
    return std::pair(at(reply, "choices.0.text"), at(reply, "choices.1.text"));
  };
  const auto [first, second] = texts("{" + members + "}");
  EXPECT_NE(first, second);
  const auto [same, again] = texts("{" + members + R"(,"seed":3})");
  EXPECT_EQ(same, again);
}

TEST_F(Answers, ManyStreamsAtATime) {
  const std::string expected = content(ask(kGreedy));
  const std::string body = chat(std::string(kGreedy) + R"(,"stream":true)");
  std::vector<std::unique_ptr<HttpClient>> clients;
  for (int i = 0; i < 100; ++i) {  // more than fit in a batch
    clients.push_back(std::make_unique<HttpClient>(served->port()));
    clients.back()->send(HttpClient::request("POST", "/v1/chat/completions", body));
  }
  for (const auto& client : clients)
    EXPECT_EQ(content_of(events_of(client->read_reply())), expected);
}

TEST_F(Answers, SeveralChoices) {
  const std::string members =
      R"("n":3,"seed":5,"temperature":1.5,"ignore_eos":true,"max_tokens":12)";
  const Json reply = ask(members);
  ASSERT_EQ(at(reply, "choices").as_array().size(), 3u);
  EXPECT_EQ(at(reply, "usage.completion_tokens"), Json(36));
  // choice i is what seed + i alone gives
  EXPECT_EQ(at(reply, "choices.2.message.content"),
            at(ask(R"("seed":7,"temperature":1.5,"ignore_eos":true,"max_tokens":12)"),
               "choices.0.message.content"));
  const std::vector<Json> events = stream(members);
  int n_finished = 0;
  std::int64_t highest = -1;
  for (const Json& event : events) {
    const std::int64_t index = at(event, "choices.0.index").as_int();
    EXPECT_LE(index, highest + 1);  // they appear in order
    highest = std::max(highest, index);
    n_finished += !at(event, "choices.0.finish_reason").is_null();
  }
  EXPECT_EQ(n_finished, 3);
  for (int i = 0; i < 3; ++i) {
    const Json whole = at(reply, "choices." + std::to_string(i) + ".message.content");
    EXPECT_EQ(content_of(events, i), whole.is_string() ? whole.as_string() : "");
  }
}

TEST_F(Answers, StopStrings) {
  const std::string text = content(ask(kGreedy));
  ASSERT_GE(text.size(), 8u);
  // Two characters from the middle, at a character boundary.
  std::size_t begin = text.size() / 2;
  while ((static_cast<unsigned char>(text[begin]) & 0xC0) == 0x80) ++begin;
  std::size_t end = begin + 1;
  while (end < text.size() && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) ++end;
  const std::string stop = text.substr(begin, end - begin);
  const std::string before = text.substr(0, text.find(stop));
  const std::string members = std::string(kGreedy) + ",\"stop\":[" + to_text(Json(stop)) + "]";
  const Json reply = ask(members);
  EXPECT_EQ(content(reply), before);
  EXPECT_EQ(at(reply, "choices.0.finish_reason"), Json("stop"));
  EXPECT_EQ(at(reply, "choices.0.stop_reason"), Json(stop));
  EXPECT_EQ(content_of(stream(members)), before);
  EXPECT_EQ(content(ask(members + R"(,"include_stop_str_in_output":true)")), before + stop);
}

TEST_F(Answers, StopTokens) {
  const Json reply = ask(R"("max_tokens":20,"logit_bias":{"106":100})");
  EXPECT_EQ(at(reply, "choices.0.finish_reason"), Json("stop"));
  EXPECT_EQ(at(reply, "choices.0.stop_reason"), Json(106));
  EXPECT_EQ(at(reply, "usage.completion_tokens"), Json(1));
  EXPECT_TRUE(at(reply, "choices.0.message.content").is_null());
  EXPECT_TRUE(
      at(ask(R"("max_tokens":20,"logit_bias":{"1":100})"), "choices.0.stop_reason").is_null());
}

TEST_F(Answers, Logprobs) {
  const Json reply = ask(std::string(kGreedy) + R"(,"logprobs":true,"top_logprobs":2)");
  const Json entries = at(reply, "choices.0.logprobs.content");
  ASSERT_EQ(entries.as_array().size(), 24u);
  for (const Json& entry : entries.as_array()) {
    EXPECT_LE(at(entry, "logprob").as_double(), 0.0);
    ASSERT_EQ(at(entry, "top_logprobs").as_array().size(), 2u);
    EXPECT_EQ(at(entry, "top_logprobs.0.token"), at(entry, "token"));
    EXPECT_EQ(at(entry, "top_logprobs.0.logprob"), at(entry, "logprob"));
    EXPECT_GE(at(entry, "top_logprobs.0.logprob").as_double(),
              at(entry, "top_logprobs.1.logprob").as_double());
  }
}

TEST_F(Answers, Completions) {
  const Json reply = served->post(
      "/v1/completions",
      R"({"prompt":["The cat","A dog"],"n":2,"seed":1,"ignore_eos":true,"logprobs":1})");
  ASSERT_EQ(at(reply, "choices").as_array().size(), 4u);
  EXPECT_EQ(at(reply, "object"), Json("text_completion"));
  EXPECT_EQ(at(reply, "usage.completion_tokens"), Json(64));
  EXPECT_EQ(at(reply, "choices.3.index"), Json(3));
  for (const char* key : {"text_offset", "token_logprobs", "tokens", "top_logprobs"}) {
    EXPECT_EQ(at(reply, std::string("choices.0.logprobs.") + key).as_array().size(), 16u) << key;
  }
  const Json echoed = served->post(
      "/v1/completions", R"({"prompt":"The cat","echo":true,"max_tokens":2,"temperature":0})");
  EXPECT_TRUE(at(echoed, "choices.0.text").as_string().starts_with("The cat"));
  const std::vector<Json> events = events_of(served->ask(
      "POST", "/v1/completions",
      R"({"prompt":"The cat","echo":true,"max_tokens":2,"temperature":0,"stream":true})"));
  std::string text;
  for (const Json& event : events) text += at(event, "choices.0.text").as_string();
  EXPECT_EQ(text, at(echoed, "choices.0.text").as_string());
}

TEST_F(Answers, TokenIdsOfPromptsAndAnswers) {
  const std::string asked = std::string(kGreedy) + R"(,"return_token_ids":true)";
  const Json in_chat = at(ask(asked), "prompt_token_ids");
  EXPECT_EQ(in_chat, at(served->post("/tokenize", chat("")), "tokens"));
  const std::vector<Json> events = stream(asked);
  EXPECT_EQ(at(events[0], "prompt_token_ids"), in_chat);
  EXPECT_EQ(events[1].find("prompt_token_ids"), nullptr);

  const std::string members =
      R"("prompt":["The cat","A dog sat"],"n":2,"seed":1,"ignore_eos":true,"max_tokens":3)";
  const auto prompt_of = [](const Json& reply, std::size_t choice) {
    return at(reply, fmt::format("choices.{}.prompt_token_ids", choice));
  };
  EXPECT_TRUE(prompt_of(served->post("/v1/completions", "{" + members + "}"), 0).is_null());
  const Json reply =
      served->post("/v1/completions", "{" + members + R"(,"return_token_ids":true})");
  const Json tokens[] = {
      at(served->post("/tokenize", R"({"prompt":"The cat"})"), "tokens"),
      at(served->post("/tokenize", R"({"prompt":"A dog sat"})"), "tokens"),
  };
  for (std::size_t i = 0; i < 4; ++i) EXPECT_EQ(prompt_of(reply, i), tokens[i / 2]) << i;
  for (const char* echo : {"", R"(,"echo":true)"}) {
    std::vector<int> n_given(4);
    for (const Json& event : events_of(served->ask(
             "POST", "/v1/completions",
             "{" + members + R"(,"return_token_ids":true,"stream":true)" + echo + "}"))) {
      const auto index = static_cast<std::size_t>(at(event, "choices.0.index").as_int());
      const Json given = prompt_of(event, 0);
      EXPECT_EQ(given, n_given[index]++ == 0 ? tokens[index / 2] : Json()) << echo;
    }
    for (const int n : n_given) EXPECT_GE(n, 3) << echo;
  }
}

TEST_F(Answers, Images) {
  std::ifstream file(GEM8_TEST_DATA "/golden/vision/images/bilevel.png", std::ios::binary);
  const std::string bytes((std::istreambuf_iterator<char>(file)), {});
  static constexpr char kAlphabet[] =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string base64;
  for (std::size_t i = 0; i < bytes.size(); i += 3) {
    const auto byte = [&](std::size_t at) {
      return at < bytes.size() ? static_cast<unsigned char>(bytes[at]) : 0u;
    };
    const unsigned group = byte(i) << 16 | byte(i + 1) << 8 | byte(i + 2);
    for (int k = 0; k < 4; ++k)
      base64 += i + static_cast<std::size_t>(k) > bytes.size()
                    ? '='
                    : kAlphabet[group >> (18 - 6 * k) & 63];
  }
  const std::string body =
      R"({"messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:image/png;base64,)" +
      base64 +
      R"("}},{"type":"text","text":"What?"}]}],"temperature":0,"ignore_eos":true,"max_tokens":8})";
  const Json reply = served->post("/v1/chat/completions", body);
  EXPECT_EQ(at(reply, "usage.completion_tokens"), Json(8));
  EXPECT_GT(at(reply, "usage.prompt_tokens").as_int(), 30);
  const HttpClient::Reply refused = served->ask(
      "POST", "/v1/chat/completions",
      R"({"messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:image/png;base64,AAAA"}}]}]})");
  EXPECT_EQ(refused.status, 400) << refused.body;
}

TEST_F(Answers, AClientThatLeavesIsForgotten) {
  const std::string series = R"(vllm:num_requests_running{engine="0",model_name="tiny"})";
  const std::string aborted =
      R"(vllm:request_success_total{engine="0",finished_reason="abort",model_name="tiny"})";
  const auto eventually = [](auto condition) {
    const auto deadline = std::chrono::steady_clock::now() + 30s;
    while (!condition()) {
      if (std::chrono::steady_clock::now() > deadline) return false;
    }
    return true;
  };
  for (const char* members : {R"("stream":true,)", ""}) {
    const double before = served->metric(aborted);
    {
      HttpClient client(served->port());
      client.send(HttpClient::request(
          "POST", "/v1/chat/completions",
          chat(std::string(members) +
               R"("n":16,"temperature":1,"ignore_eos":true,"max_tokens":16000)")));
      ASSERT_TRUE(eventually([&] { return served->metric(series) > 0; }));
    }
    EXPECT_TRUE(eventually([&] { return served->metric(series) == 0; }));
    EXPECT_TRUE(eventually([&] { return served->metric(aborted) == before + 16; }))
        << served->metric(aborted);
  }
}

TEST_F(Answers, AHalfClosedClientIsAnswered) {
  HttpClient client(served->port());
  client.send(HttpClient::request("POST", "/v1/chat/completions", chat(kGreedy)));
  client.shut_down_writing();
  EXPECT_EQ(client.read_reply().status, 200);
}

}  // namespace
}  // namespace gem8::testing
