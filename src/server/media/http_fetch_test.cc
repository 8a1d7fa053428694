#include "server/media/http_fetch.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <memory>

#include "tests/support/loopback_server.h"

namespace gem8 {
namespace {

using testing::http_ok;
using testing::http_redirect;
using testing::LoopbackServer;

std::string text_of(const std::vector<std::byte>& bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

/// Lets tests reach their own servers; everything but the addresses stays as in production.
FetchPolicy open_policy() {
  return {.allowed_hosts = {"127.0.0.1", "localhost"},
          .is_public = [](const IpAddress&) { return true; }};
}

/// Calls the first n connections public, whatever they are, and judges the rest.
FetchPolicy policy_after(int n) {
  FetchPolicy policy = open_policy();
  policy.is_public = [left = std::make_shared<int>(n)](const IpAddress& address) {
    return (*left)-- > 0 || is_public_address(address);
  };
  return policy;
}

Code code_of(const Result<std::vector<std::byte>>& result) {
  EXPECT_FALSE(result.has_value());
  return result ? Code::kInternal : result.error().code;
}

TEST(IpAddress, OnlyThePublicInternetIsPublic) {
  const struct {
    const char* address;
    bool is_public;
  } kCases[] = {
      {"8.8.8.8", true},
      {"93.184.216.34", true},
      {"9.255.255.255", true},
      {"11.0.0.0", true},
      {"100.63.255.255", true},
      {"100.128.0.0", true},
      {"172.15.255.255", true},
      {"172.32.0.0", true},
      {"192.167.255.255", true},
      {"198.17.255.255", true},
      {"198.20.0.0", true},
      {"223.255.255.255", true},
      {"2606:4700::1111", true},
      {"2a00:1450:4001:80b::200e", true},
      {"2001:200::1", true},
      {"0.0.0.0", false},
      {"0.1.2.3", false},
      {"10.0.0.1", false},
      {"10.255.255.255", false},
      {"100.64.0.1", false},
      {"100.127.255.255", false},
      {"127.0.0.1", false},
      {"127.255.255.254", false},
      {"168.63.129.16", false},
      {"169.254.169.254", false},
      {"172.16.0.1", false},
      {"172.31.255.255", false},
      {"192.0.0.8", false},
      {"192.0.2.1", false},
      {"192.88.99.1", false},
      {"192.168.1.1", false},
      {"198.18.0.1", false},
      {"198.19.255.255", false},
      {"198.51.100.7", false},
      {"203.0.113.7", false},
      {"224.0.0.1", false},
      {"239.255.255.255", false},
      {"240.0.0.1", false},
      {"255.255.255.255", false},
      {"::", false},
      {"::1", false},
      {"::127.0.0.1", false},       // IPv4-compatible
      {"::ffff:127.0.0.1", false},  // IPv4-mapped
      {"::ffff:8.8.8.8", false},    // even of a public address: it has a plain spelling
      {"64:ff9b::7f00:1", false},   // NAT64
      {"64:ff9b:1::1", false},      // local NAT64
      {"100::1", false},            // discard
      {"2001::1", false},           // Teredo
      {"2001:10::1", false},        // ORCHID
      {"2001:db8::1", false},       // documentation
      {"2002:7f00:1::", false},     // 6to4 of 127.0.0.1
      {"2002:808:808::1", false},   // 6to4 of 8.8.8.8
      {"3fff::1", false},           // documentation
      {"4000::1", false},           // not handed out
      {"fc00::1", false},           // unique local
      {"fd00:ec2::254", false},     // cloud metadata
      {"fe80::1", false},           // link-local
      {"fec0::1", false},           // site-local
      {"ff02::1", false},           // multicast
  };
  for (const auto& test : kCases) {
    const auto address = parse_ip_address(test.address);
    ASSERT_TRUE(address.has_value()) << test.address;
    EXPECT_EQ(is_public_address(*address), test.is_public) << test.address;
  }
  EXPECT_FALSE(parse_ip_address("localhost").has_value());
  EXPECT_FALSE(parse_ip_address("1.2.3").has_value());
}

TEST(FetchHttp, ReturnsTheBody) {
  LoopbackServer server([](std::string_view) { return http_ok(std::string_view("a\0b", 3)); });
  const auto body = fetch_http(server.url("/x.png"), open_policy());
  ASSERT_TRUE(body.has_value()) << body.error().text();
  EXPECT_EQ(text_of(*body), std::string("a\0b", 3));
}

TEST(FetchHttp, FollowsRedirectsWithinTheLimit) {
  std::string self;
  LoopbackServer server([&self](std::string_view head) {
    if (head.starts_with("GET /3 ")) return http_redirect("/2");  // relative
    if (head.starts_with("GET /2 ")) return http_redirect(self + "/1");
    if (head.starts_with("GET /1 ")) return http_redirect("/0");
    if (head.starts_with("GET /0 ")) return http_ok("end");
    return http_redirect("/3");
  });
  self = server.url("");
  const auto body = fetch_http(server.url("/3"), open_policy());
  ASSERT_TRUE(body.has_value()) << body.error().text();
  EXPECT_EQ(text_of(*body), "end");
  EXPECT_EQ(code_of(fetch_http(server.url("/4"), open_policy())), Code::kInvalidArgument);
}

TEST(FetchHttp, NeverConnectsToAPrivateAddress) {
  LoopbackServer server([](std::string_view) { return http_ok("secret"); });
  FetchPolicy policy = open_policy();
  policy.is_public = is_public_address;
  for (const char* host : {"127.0.0.1", "localhost", "LOCALHOST", "0x7f.1", "2130706433"}) {
    EXPECT_EQ(code_of(fetch_http(server.url("/", host), policy)), Code::kInvalidArgument) << host;
  }
  EXPECT_EQ(server.n_connections(), 0);
}

TEST(FetchHttp, NeverFollowsARedirectToAPrivateAddress) {
  LoopbackServer secret([](std::string_view) { return http_ok("secret"); });
  for (const char* host : {"127.0.0.1", "localhost", "127.1"}) {
    LoopbackServer server(
        [&](std::string_view) { return http_redirect(secret.url("/admin", host)); });
    const auto body = fetch_http(server.url("/x.png"), policy_after(1));
    EXPECT_EQ(code_of(body), Code::kInvalidArgument) << host;
    EXPECT_EQ(server.n_connections(), 1);
  }
  EXPECT_EQ(secret.n_connections(), 0);
}

TEST(FetchHttp, ChecksTheHostAtEveryHop) {
  LoopbackServer other([](std::string_view) { return http_ok("other"); });
  LoopbackServer server(
      [&](std::string_view) { return http_redirect(other.url("/", "localhost")); });
  FetchPolicy policy = open_policy();
  policy.allowed_hosts = {"127.0.0.1"};
  EXPECT_EQ(code_of(fetch_http(server.url("/"), policy)), Code::kInvalidArgument);
  EXPECT_EQ(code_of(fetch_http(server.url("/", "localhost"), policy)), Code::kInvalidArgument);
  EXPECT_EQ(server.n_connections(), 1);
  EXPECT_EQ(other.n_connections(), 0);
}

TEST(FetchHttp, FollowsRedirectsOnlyToHttp) {
  for (const char* to : {"file:///etc/passwd", "ftp://127.0.0.1/x", "gopher://127.0.0.1:1/x",
                         "dict://127.0.0.1:1/x", "data:image/png;base64,AAAA"}) {
    LoopbackServer server([&](std::string_view) { return http_redirect(to); });
    EXPECT_EQ(code_of(fetch_http(server.url("/"), open_policy())), Code::kInvalidArgument) << to;
  }
}

TEST(FetchHttp, RefusesUrlsThatSayOneHostAndMeanAnother) {
  LoopbackServer server([](std::string_view) { return http_ok("secret"); });
  FetchPolicy policy = open_policy();
  policy.allowed_hosts = {"good.example"};
  const std::string port = std::to_string(server.port());
  const std::string urls[] = {"http://good.example@127.0.0.1:" + port + "/",
                              "http://good.example:" + port + "@127.0.0.1/",
                              "http://127.0.0.1:" + port + "#good.example/",
                              "http://127.0.0.1:" + port + "\\@good.example/",
                              "http://127.0.0.1:" + port + "?good.example",
                              std::string("http://good.example\0.127.0.0.1/", 32),
                              "http:///",
                              "http://",
                              "http://[::1",
                              "http:// good.example/",
                              "http://good.example:99999/",
                              "http://" + std::string(9000, 'a') + "/"};
  for (const std::string& url : urls) {
    EXPECT_EQ(code_of(fetch_http(url, policy)), Code::kInvalidArgument) << url;
  }
  EXPECT_EQ(server.n_connections(), 0);
}

TEST(FetchHttp, StopsAtTheByteLimit) {
  FetchPolicy policy = open_policy();
  policy.max_bytes = 1000;
  LoopbackServer honest([](std::string_view head) {
    return http_ok(std::string(head.starts_with("GET /fits ") ? 1000 : 1001, 'x'));
  });
  EXPECT_TRUE(fetch_http(honest.url("/fits"), policy).has_value());
  EXPECT_EQ(code_of(fetch_http(honest.url("/big"), policy)), Code::kExhausted);
  LoopbackServer silent_about_size([](std::string_view) {
    return "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + std::string(1 << 20, 'x');
  });
  EXPECT_EQ(code_of(fetch_http(silent_about_size.url("/"), policy)), Code::kExhausted);
  LoopbackServer long_head([](std::string_view) {
    std::string head = "HTTP/1.1 200 OK\r\n";
    for (int i = 0; i < 2000; ++i) head += "X-Filler: " + std::string(90, 'x') + "\r\n";
    return head + "Content-Length: 1\r\n\r\nx";
  });
  EXPECT_EQ(code_of(fetch_http(long_head.url("/"), policy)), Code::kExhausted);
}

TEST(FetchHttp, StopsAtTheDeadlineWhereverTheTimeWent) {
  FetchPolicy policy = open_policy();
  policy.timeout = std::chrono::milliseconds(200);
  LoopbackServer silent([](std::string_view) { return std::string(); });
  EXPECT_EQ(code_of(fetch_http(silent.url("/"), policy)), Code::kDeadline);
  LoopbackServer redirects([&](std::string_view) { return http_redirect(silent.url("/")); });
  EXPECT_EQ(code_of(fetch_http(redirects.url("/"), policy)), Code::kDeadline);
}

TEST(FetchHttp, SaysWhetherTryingAgainMayHelp) {
  const struct {
    const char* status;
    Code code;
  } kCases[] = {{"404 Not Found", Code::kInvalidArgument},
                {"403 Forbidden", Code::kInvalidArgument},
                {"302 Found", Code::kInvalidArgument},  // to nowhere
                {"408 Request Timeout", Code::kUnavailable},
                {"429 Too Many Requests", Code::kUnavailable},
                {"500 Internal Server Error", Code::kUnavailable}};
  for (const auto& test : kCases) {
    LoopbackServer server([&](std::string_view) {
      return "HTTP/1.1 " + std::string(test.status) + "\r\nContent-Length: 0\r\n\r\n";
    });
    EXPECT_EQ(code_of(fetch_http(server.url("/"), open_policy())), test.code) << test.status;
  }
  std::string gone;
  {
    LoopbackServer server([](std::string_view) { return http_ok(""); });
    gone = server.url("/");
  }
  EXPECT_EQ(code_of(fetch_http(gone, open_policy())), Code::kUnavailable);
  LoopbackServer not_http([](std::string_view) { return std::string("SSH-2.0-x\r\n"); });
  EXPECT_EQ(code_of(fetch_http(not_http.url("/"), open_policy())), Code::kUnavailable);
}

TEST(FetchHttp, IgnoresProxiesOfTheEnvironment) {
  LoopbackServer proxy([](std::string_view) { return http_ok("proxy"); });
  LoopbackServer server([](std::string_view) { return http_ok("server"); });
  ::setenv("http_proxy", proxy.url("").c_str(), 1);
  ::setenv("all_proxy", proxy.url("").c_str(), 1);
  const auto body = fetch_http(server.url("/"), open_policy());
  ::unsetenv("http_proxy");
  ::unsetenv("all_proxy");
  ASSERT_TRUE(body.has_value()) << body.error().text();
  EXPECT_EQ(text_of(*body), "server");
  EXPECT_EQ(proxy.n_connections(), 0);
}

}  // namespace
}  // namespace gem8
