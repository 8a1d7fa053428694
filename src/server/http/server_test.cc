#include "server/http/server.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "tests/support/http_client.h"

namespace gem8::http {
namespace {

using gem8::testing::HttpClient;
using namespace std::chrono_literals;

/// A server with a few routes that exercise the transport.
class ServerTest : public ::testing::Test {
 protected:
  void start(ServerOptions options = {}) {
    options.host = "127.0.0.1";
    options.port = 0;
    options.access_log = false;
    options.error_response = [](int status, std::string message) {
      return Response{.status = status, .content_type = "text/plain", .body = std::move(message)};
    };
    auto listening = Server::bind(options);
    ASSERT_TRUE(listening) << listening.error().text();
    server = *std::move(listening);
    ASSERT_TRUE(server->listen());
    thread = std::thread(
        [this] { server->run([this](Exchange& exchange) { return handle(exchange); }); });
  }

  void stop() {
    if (!thread.joinable()) return;
    server->stop();
    thread.join();
  }

  void TearDown() override { stop(); }

  Task<void> handle(Exchange& exchange) {
    const Request& request = exchange.request();
    if (request.path == "/stream") {
      StreamHead head{.status = 200,
                      .content_type = "text/event-stream",
                      .headers = {},
                      .idle_text = ": idle\n\n",
                      .idle_seconds = 1};
      Status sent = co_await exchange.start_stream(std::move(head));
      for (int i = 0; i < 3 && sent; ++i)
        sent = co_await exchange.write("event " + std::to_string(i) + "\n");
      if (sent) co_await exchange.finish();
    } else if (request.path == "/wait" || request.path == "/wait-stream") {
      {
        const std::lock_guard lock(mutex);
        waker = exchange.waker();
      }
      Status sent;
      if (request.path == "/wait-stream") {
        StreamHead head{.status = 200,
                        .content_type = "text/event-stream",
                        .headers = {},
                        .idle_text = ": idle\n\n",
                        .idle_seconds = 1};
        sent = co_await exchange.start_stream(std::move(head));
      }
      ++n_waiting;
      if (sent) sent = co_await exchange.wait();
      --n_waiting;
      ended = sent ? "woken" : std::string(code_name(sent.error().code));
      ++n_ended;
      if (sent && exchange.streaming()) sent = co_await exchange.finish();
      if (sent && !exchange.streaming()) {
        Response response{.body = "done"};
        co_await exchange.respond(std::move(response));
      }
    } else if (request.path == "/throw") {
      throw std::runtime_error("as asked");
    } else if (request.path == "/silent") {
      co_return;
    } else {
      Response response{
          .content_type = "text/plain",
          .body = request.method + " " + request.path + " [" + request.query + "] " + request.body,
          .headers = {{"X-Seen", std::string(request.header("x-tEst"))}}};
      co_await exchange.respond(std::move(response));
    }
  }

  void wake() {
    const std::lock_guard lock(mutex);
    waker();
  }

  template <class Condition>
  static bool eventually(Condition condition) {
    const auto deadline = std::chrono::steady_clock::now() + 10s;
    while (!condition()) {
      if (std::chrono::steady_clock::now() > deadline) return false;
      std::this_thread::yield();
    }
    return true;
  }

  std::unique_ptr<Server> server;
  std::thread thread;
  std::mutex mutex;
  std::function<void()> waker;
  std::atomic<int> n_waiting{0};
  std::atomic<int> n_ended{0};
  std::string ended;
};

TEST_F(ServerTest, AnswersSeveralRequestsOnOneConnection) {
  start();
  HttpClient client(server->port());
  HttpClient::Reply reply = client.ask("GET", "/a?b=c", {}, "X-Test: yes\r\n");
  EXPECT_EQ(reply.status, 200);
  EXPECT_EQ(reply.body, "GET /a [b=c] ");
  EXPECT_EQ(reply.header("x-seen"), "yes");
  EXPECT_EQ(reply.header("content-type"), "text/plain");
  reply = client.ask("POST", "/d", "body");
  EXPECT_EQ(reply.body, "POST /d [] body");
  reply = client.ask("GET", "/e", {}, "Connection: close\r\n");
  EXPECT_EQ(reply.body, "GET /e [] ");
  EXPECT_TRUE(client.at_end());
}

TEST_F(ServerTest, PipelinedRequestsAreAnsweredInOrder) {
  start();
  HttpClient client(server->port());
  client.send(HttpClient::request("GET", "/1") + HttpClient::request("GET", "/2"));
  EXPECT_EQ(client.read_reply().body, "GET /1 [] ");
  EXPECT_EQ(client.read_reply().body, "GET /2 [] ");
}

TEST_F(ServerTest, ChunkedBodiesAndExpectContinue) {
  start();
  HttpClient client(server->port());
  client.send(
      "POST /c HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: "
      "chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n");
  EXPECT_EQ(client.read_reply().body, "POST /c [] abcde");
  client.send("POST /e HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n");
  client.send("ok");
  EXPECT_EQ(client.read_reply().body, "POST /e [] ok");
  EXPECT_EQ(client.n_interim(), 1);
}

TEST_F(ServerTest, AnswersToHeadHaveNoBody) {
  start();
  for (const char* path : {"/x", "/stream", "/silent"}) {
    HttpClient client(server->port());
    client.send(HttpClient::request("HEAD", path));
    HttpClient::Reply head;
    ASSERT_TRUE(client.read_head(head)) << path;
    if (std::string_view(path) == "/silent") {
      EXPECT_EQ(head.status, 500);
      EXPECT_TRUE(client.at_end()) << path;
      continue;
    }
    EXPECT_EQ(head.status, 200) << path;
    if (std::string_view(path) == "/x") {
      EXPECT_EQ(head.header("content-length"), std::to_string(std::string("HEAD /x [] ").size()));
    }
    EXPECT_EQ(client.ask("GET", "/y").body, "GET /y [] ") << path;
  }
}

TEST_F(ServerTest, StreamsInChunksAndKeepsTheConnection) {
  start();
  HttpClient client(server->port());
  const HttpClient::Reply reply = client.ask("GET", "/stream");
  EXPECT_EQ(reply.header("transfer-encoding"), "chunked");
  EXPECT_EQ(reply.chunks, (std::vector<std::string>{"event 0\n", "event 1\n", "event 2\n"}));
  EXPECT_EQ(client.ask("GET", "/x").status, 200);
}

TEST_F(ServerTest, Http10StreamsWithoutChunks) {
  start();
  HttpClient client(server->port());
  client.send("GET /stream HTTP/1.0\r\n\r\n");
  EXPECT_EQ(client.read_reply().body, "event 0\nevent 1\nevent 2\n");
}

TEST_F(ServerTest, TooLargeOrTooManyIsRefused) {
  start({.max_header_bytes = 2000, .max_headers = 10, .max_body_bytes = 100});
  {
    HttpClient client(server->port());
    const HttpClient::Reply reply = client.ask("POST", "/x", std::string(101, 'a'));
    EXPECT_EQ(reply.status, 413);
    EXPECT_EQ(reply.header("connection"), "close");
    EXPECT_EQ(reply.body, "the body is larger than 100 bytes");
  }
  {
    HttpClient client(server->port());
    client.send("POST /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n70\r\n" +
                std::string(0x70, 'a') + "\r\n0\r\n\r\n");
    EXPECT_EQ(client.read_reply().status, 413);
  }
  {
    HttpClient client(server->port());
    EXPECT_EQ(client.ask("GET", "/x", {}, "X-Long: " + std::string(3000, 'a') + "\r\n").status,
              431);
  }
  {
    HttpClient client(server->port());
    std::string many;
    for (int i = 0; i < 11; ++i) many += "X-" + std::to_string(i) + ": 1\r\n";
    EXPECT_EQ(client.ask("GET", "/x", {}, many).status, 431);
  }
  HttpClient client(server->port());
  EXPECT_EQ(client.ask("POST", "/x", std::string(100, 'a')).status, 200);
}

TEST_F(ServerTest, WhatIsNotHttpIsRefused) {
  start();
  for (const char* text :
       {"nonsense\r\n\r\n", "GET\r\n\r\n", "GET / HTTP/9.9\r\n\r\n",
        "GET / HTTP/1.1\r\nBad Header\r\n\r\n", "POST / HTTP/1.1\r\nContent-Length: -5\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"}) {
    HttpClient client(server->port());
    client.send(text);
    EXPECT_EQ(client.read_reply().status, 400) << text;
  }
}

TEST_F(ServerTest, AmbiguousRequestsAreRefusedAndClose) {
  start();
  const struct {
    const char* header;
    int status;
  } cases[] = {
      {"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501},
      {"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked, gzip\r\n\r\n", 501},
      {"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: xchunked\r\n\r\n", 501},
      {"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: identity\r\n\r\n", 501},
      {"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding:\r\n\r\n", 501},
      {"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\nTransfer-Encoding: "
       "chunked\r\n\r\n",
       501},
      {"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n",
       400},
      {"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
       400},
      {"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: gzip\r\n\r\n", 400},
      {"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400},
      {"GET / HTTP/1.1\r\n\r\n", 400},
      {"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400},
  };
  for (const auto& test : cases) {
    HttpClient client(server->port());
    client.send(std::string(test.header) + "0\r\n\r\n" + HttpClient::request("GET", "/hidden"));
    const HttpClient::Reply reply = client.read_reply();
    EXPECT_EQ(reply.status, test.status) << test.header;
    EXPECT_TRUE(client.at_end()) << test.header;
  }
  HttpClient client(server->port());
  client.send("POST /c HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: Chunked\r\n\r\n0\r\n\r\n");
  EXPECT_EQ(client.read_reply().body, "POST /c [] ");
}

TEST_F(ServerTest, TargetsMayNameTheHost) {
  start();
  const std::pair<const char*, const char*> cases[] = {
      {"http://x/a?b=c", "GET /a [b=c] "},
      {"HTTPS://x:1/a/http://b", "GET /a/http://b [] "},
      {"http://x", "GET / [] "},
      {"http://x?b", "GET / [b] "},
      {"/a/http://x", "GET /a/http://x [] "},
  };
  for (const auto& [target, body] : cases) {
    HttpClient client(server->port());
    EXPECT_EQ(client.ask("GET", target).body, body) << target;
  }
}

TEST_F(ServerTest, SlowClientsMeetDeadlines) {
  start({.idle_timeout = 200ms, .header_timeout = 200ms, .body_timeout = 200ms});
  HttpClient idle(server->port());
  EXPECT_TRUE(idle.at_end());
  HttpClient slow_header(server->port());
  slow_header.send("GET / HT");
  EXPECT_TRUE(slow_header.at_end());
  HttpClient slow_body(server->port());
  slow_body.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nab");
  EXPECT_TRUE(slow_body.at_end());
}

TEST_F(ServerTest, HandlersThatFailAnswer500) {
  start();
  HttpClient client(server->port());
  EXPECT_EQ(client.ask("GET", "/throw").status, 500);
  HttpClient other(server->port());
  EXPECT_EQ(other.ask("GET", "/silent").status, 500);
}

TEST_F(ServerTest, WakersWakeFromOtherThreads) {
  start();
  HttpClient client(server->port());
  client.send(HttpClient::request("GET", "/wait"));
  ASSERT_TRUE(eventually([&] { return n_waiting == 1; }));
  wake();
  EXPECT_EQ(client.read_reply().body, "done");
  wake();  // nobody is there any more
  EXPECT_EQ(client.ask("GET", "/x").status, 200);
}

TEST_F(ServerTest, AClosedClientIsNoticedWhileWaiting) {
  start();
  for (const char* path : {"/wait", "/wait-stream"}) {
    n_ended = 0;
    {
      HttpClient client(server->port());
      client.send(HttpClient::request("GET", path));
      ASSERT_TRUE(eventually([&] { return n_waiting == 1; }));
    }
    ASSERT_TRUE(eventually([&] { return n_ended == 1; })) << path;
    EXPECT_EQ(ended, "cancelled") << path;
  }
}

TEST_F(ServerTest, AClosedClientIsNoticedWhateverItSentBefore) {
  start();
  const struct {
    const char* what;
    std::string request;
    std::string later;  ///< in a packet of its own
  } cases[] = {
      {"a stray line end", HttpClient::request("GET", "/wait") + "\r\n", ""},
      {"a late line end", HttpClient::request("GET", "/wait"), "\r\n"},
      {"a pipelined request", HttpClient::request("GET", "/wait"),
       HttpClient::request("GET", "/x")},
      {"the same, streamed", HttpClient::request("GET", "/wait-stream"),
       HttpClient::request("GET", "/x")},
      {"HTTP/1.0", "GET /wait HTTP/1.0\r\n\r\n", ""},
      {"HTTP/1.0 and a late line end", "GET /wait HTTP/1.0\r\n\r\n", "\r\n"},
      {"HTTP/1.0, streamed", "GET /wait-stream HTTP/1.0\r\n\r\n", ""},
  };
  for (const auto& test : cases) {
    n_ended = 0;
    {
      HttpClient client(server->port());
      client.send(test.request);
      ASSERT_TRUE(eventually([&] { return n_waiting == 1; })) << test.what;
      client.send(test.later);
    }
    const auto closed = std::chrono::steady_clock::now();
    ASSERT_TRUE(eventually([&] { return n_ended == 1; })) << test.what;
    EXPECT_EQ(ended, "cancelled") << test.what;
    EXPECT_LT(std::chrono::steady_clock::now() - closed, 5s) << test.what;
  }
}

TEST_F(ServerTest, AHalfClosedClientGetsItsAnswer) {
  start();
  HttpClient client(server->port());
  client.send(HttpClient::request("GET", "/wait"));
  client.shut_down_writing();
  ASSERT_TRUE(eventually([&] { return n_waiting == 1; }));
  // Longer than the delay of the probe: an interim response that the client skips.
  const auto until = std::chrono::steady_clock::now() + 1200ms;
  eventually([&] { return std::chrono::steady_clock::now() > until; });
  EXPECT_EQ(n_waiting, 1);
  wake();
  EXPECT_EQ(client.read_reply().body, "done");
  EXPECT_EQ(client.n_interim(), 1);
}

TEST_F(ServerTest, SilentStreamsSayThatTheyLive) {
  start();
  HttpClient client(server->port());
  client.send(HttpClient::request("GET", "/wait-stream"));
  HttpClient::Reply reply;
  ASSERT_TRUE(client.read_head(reply));
  std::string chunk;
  ASSERT_TRUE(client.read_chunk(chunk));
  EXPECT_EQ(chunk, ": idle\n\n");
  wake();
}

TEST_F(ServerTest, StoppingLetsAnswersFinish) {
  start();
  HttpClient client(server->port());
  HttpClient idle(server->port());
  EXPECT_EQ(idle.ask("GET", "/x").status, 200);
  client.send(HttpClient::request("GET", "/wait"));
  ASSERT_TRUE(eventually([&] { return n_waiting == 1; }));
  server->stop();
  EXPECT_TRUE(idle.at_end());
  EXPECT_TRUE(eventually([&] { return !HttpClient(server->port()).connected(); }));
  wake();
  const HttpClient::Reply reply = client.read_reply();
  EXPECT_EQ(reply.body, "done");
  EXPECT_EQ(reply.header("connection"), "close");
  thread.join();
}

TEST_F(ServerTest, StoppingBreaksOffWhatTakesTooLong) {
  start({.drain_timeout = 100ms});
  HttpClient client(server->port());
  client.send(HttpClient::request("GET", "/wait"));
  ASSERT_TRUE(eventually([&] { return n_waiting == 1; }));
  server->stop();
  thread.join();
  EXPECT_EQ(ended, "unavailable");
  EXPECT_TRUE(client.at_end());
}

TEST_F(ServerTest, APortInUseIsSaid) {
  start();
  const auto second = Server::bind({.host = "127.0.0.1", .port = server->port()});
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code, Code::kUnavailable);
  EXPECT_EQ(Server::bind({.host = "not a host", .port = 0}).error().code, Code::kInvalidArgument);
}

}  // namespace
}  // namespace gem8::http
