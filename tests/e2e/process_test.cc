// Starting and ending the process.
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/e2e/served.h"

namespace gem8::testing {
namespace {

TEST(ServeProcess, SaysWhatScriptsWaitFor) {
  Served served({"--enable-auto-tool-choice", "--tool-call-parser", "gemma4", "--swap-space", "4"});
  const std::string errors = served.process().errors();
  for (const char* line :
       {"flag --swap-space has no effect here", "Available KV cache memory: ",
        "GPU KV cache size: ", "Maximum concurrency for 16,384 tokens per request: ",
        "Application startup complete.", "ready after "}) {
    EXPECT_NE(errors.find(line), std::string::npos) << line << "\n" << errors;
  }
}

TEST(ServeProcess, AddressesOfIpv6AreSaidAsInUrls) {
  const int probe = ::socket(AF_INET6, SOCK_STREAM, 0);
  const sockaddr_in6 loopback{.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
  const bool has_ipv6 =
      ::bind(probe, reinterpret_cast<const sockaddr*>(&loopback), sizeof loopback) == 0;
  ::close(probe);
  if (!has_ipv6) GTEST_SKIP() << "no IPv6 here";
  Process process({GEM8_BINARY, "serve", tiny_model().string(), "--host", "::1", "--port", "0"});
  EXPECT_TRUE(process.says("Uvicorn running on http://[::1]:")) << process.errors();
}

TEST(ServeProcess, TerminationLetsAnswersFinish) {
  Served served;
  HttpClient client(served.port());
  client.send(HttpClient::request("POST", "/v1/chat/completions",
                                  chat(R"("stream":true,"ignore_eos":true,"max_tokens":300)")));
  HttpClient::Reply head;
  ASSERT_TRUE(client.read_head(head));
  std::string chunk;
  ASSERT_TRUE(client.read_chunk(chunk));
  served.process().signal(SIGTERM);
  ASSERT_TRUE(served.process().says("SIGTERM"));
  std::string last;
  while (client.read_chunk(chunk) && !chunk.empty()) last = chunk;
  EXPECT_TRUE(last.ends_with("data: [DONE]\n\n")) << last;
  EXPECT_EQ(served.process().wait(), 0);
  EXPECT_FALSE(HttpClient(served.port()).connected());
}

TEST(ServeProcess, TerminationDoesNotWaitForeverForAnswers) {
  Served served({"--shutdown-timeout", "0"});
  HttpClient client(served.port());
  client.send(HttpClient::request("POST", "/v1/chat/completions",
                                  chat(R"("n":8,"ignore_eos":true,"max_tokens":16000)")));
  ASSERT_TRUE(HttpClient(served.port()).connected());
  served.process().signal(SIGTERM);
  EXPECT_EQ(served.process().wait(), 0);
}

TEST(ServeProcess, InterruptionEndsWith130) {
  Served served;
  served.process().signal(SIGINT);
  EXPECT_EQ(served.process().wait(), 130);
}

TEST(ServeProcess, WhatCannotBeDoneEndsWith2) {
  Served first;
  const std::string port = std::to_string(first.port());
  const std::string model = tiny_model().string();
  const struct {
    std::vector<std::string> words;
    const char* says;
  } cases[] = {
      {{"serve", model, "--port", port, "--host", "127.0.0.1"}, "is in use by another program"},
      {{"serve", model, "--prot", "1"}, "did you mean --port?"},
      {{"serve", model, "--tensor-parallel-size", "2"}, "--tensor-parallel-size 2"},
      {{"serve"}, "which model?"},
      {{"serve", "/nowhere/at/all"}, "/nowhere/at/all"},
      {{"serve", model, "--port", "0", "--max-model-len", "99999"},
       "max_position_embeddings is 16384"},
      {{"serve", model, "--port", "0", "--max-model-len", "16384", "--kv-cache-memory-bytes", "1M"},
       "To serve at least one request"},
      {{"serve", model, "--port", "0", "--max-num-seqs", "64", "--max-num-batched-tokens", "32",
        "--language-model-only"},
       "max_num_batched_tokens"},
      {{"serve", model, "--port", "0", "--quantization", "fp8"}, "the checkpoint's is none"},
      {{"serve", model, "--port", "0", "--generation-config", "/nonexistent"},
       "there is no generation_config.json"},
      {{"serve", model, "--port", "0", "--override-generation-config", R"({"temperature":5})"},
       "temperature must be in [0, 2], found 5"},
  };
  for (const auto& test : cases) {
    std::vector<std::string> words = {GEM8_BINARY};
    words.insert(words.end(), test.words.begin(), test.words.end());
    Process process(words);
    EXPECT_EQ(process.wait(), 2) << test.says;
    EXPECT_TRUE(process.says(test.says)) << process.errors();
    EXPECT_TRUE(process.says("gem8: error: ")) << process.errors();
  }
}

}  // namespace
}  // namespace gem8::testing
