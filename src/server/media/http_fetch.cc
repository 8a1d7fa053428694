#include "server/media/http_fetch.h"

#include <curl/curl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <optional>

#include "foundation/check.h"

namespace gem8 {
namespace {

using FetchClock = std::chrono::steady_clock;

constexpr std::size_t kMaxUrlBytes = 8192;
constexpr std::size_t kMaxHeaderBytes = 64 << 10;

template <auto Free>
struct FreeWith {
  template <class T>
  void operator()(T* pointer) const {
    Free(pointer);
  }
};
using Easy = std::unique_ptr<CURL, FreeWith<curl_easy_cleanup>>;
using Url = std::unique_ptr<CURLU, FreeWith<curl_url_cleanup>>;
using UrlPart = std::unique_ptr<char, FreeWith<curl_free>>;

/// One hop: what libcurl's callbacks share.
struct Hop {
  const FetchPolicy* policy = nullptr;
  std::vector<std::byte> body;
  std::size_t header_bytes = 0;
  bool refused_address = false;
  bool too_large = false;
};

std::optional<IpAddress> address_of(const sockaddr& from, std::size_t size) {
  IpAddress address;
  if (from.sa_family == AF_INET && size >= sizeof(sockaddr_in)) {
    sockaddr_in v4;
    std::memcpy(&v4, &from, sizeof v4);
    std::memcpy(address.bytes.data(), &v4.sin_addr, sizeof v4.sin_addr);
    return address;
  }
  if (from.sa_family == AF_INET6 && size >= sizeof(sockaddr_in6)) {
    sockaddr_in6 v6;
    std::memcpy(&v6, &from, sizeof v6);
    address.is_v6 = true;
    std::memcpy(address.bytes.data(), &v6.sin6_addr, sizeof v6.sin6_addr);
    return address;
  }
  return std::nullopt;
}

/// The last moment before a connection, and the only one that knows its real address.
curl_socket_t open_socket(void* user, curlsocktype, curl_sockaddr* to) {
  Hop& hop = *static_cast<Hop*>(user);
  const auto address = address_of(to->addr, to->addrlen);
  if (hop.refused_address || !address || !hop.policy->is_public(*address)) {
    hop.refused_address = true;
    return CURL_SOCKET_BAD;
  }
  return socket(to->family, to->socktype | SOCK_CLOEXEC, to->protocol);
}

std::size_t take_body(char* data, std::size_t, std::size_t size, void* user) {
  Hop& hop = *static_cast<Hop*>(user);
  if (size > hop.policy->max_bytes - hop.body.size()) {
    hop.too_large = true;
    return 0;
  }
  const auto* bytes = reinterpret_cast<const std::byte*>(data);
  hop.body.insert(hop.body.end(), bytes, bytes + size);
  return size;
}

std::size_t count_header(char*, std::size_t, std::size_t size, void* user) {
  Hop& hop = *static_cast<Hop*>(user);
  hop.header_bytes += size;
  hop.too_large = hop.too_large || hop.header_bytes > kMaxHeaderBytes;
  return hop.too_large ? 0 : size;
}

std::optional<std::string> part_of(CURLU* url, CURLUPart which) {
  char* text = nullptr;
  if (curl_url_get(url, which, &text, 0) != CURLUE_OK) return std::nullopt;
  const UrlPart owner(text);
  return std::string(text);
}

/// The parsed URL that libcurl will use: what is checked is what is fetched.
Result<Url> parse_allowed(const std::string& text, const FetchPolicy& policy) {
  if (text.size() > kMaxUrlBytes) {
    return fail(Code::kInvalidArgument, "a URL longer than {} bytes", kMaxUrlBytes);
  }
  Url url(curl_url());
  GEM8_CHECK(url != nullptr);
  const CURLUcode parsed =
      text.find('\0') != std::string::npos
          ? CURLUE_MALFORMED_INPUT
          : curl_url_set(url.get(), CURLUPART_URL, text.c_str(), CURLU_DISALLOW_USER);
  if (parsed == CURLUE_USER_NOT_ALLOWED) {
    return fail(Code::kInvalidArgument, "a URL with a user name");
  }
  const auto scheme = part_of(url.get(), CURLUPART_SCHEME);
  const auto host = part_of(url.get(), CURLUPART_HOST);
  if (parsed != CURLUE_OK || !scheme || !host || host->empty()) {
    return fail(Code::kInvalidArgument, "a URL that cannot be read");
  }
  if (*scheme != "http" && *scheme != "https") {
    return fail(Code::kInvalidArgument, "a URL that leads to another scheme than http and https");
  }
  const auto& allowed = policy.allowed_hosts;
  if (std::ranges::find(allowed, normal_host(*host)) == allowed.end()) {
    return fail(Code::kInvalidArgument, "the URL's host is not among --allowed-media-domains");
  }
  return url;
}

Easy prepare(CURLU* url, Hop& hop, std::chrono::milliseconds left) {
  Easy easy(curl_easy_init());
  GEM8_CHECK(easy != nullptr);
  const auto set = [&](CURLoption option, auto value) {
    GEM8_CHECK(curl_easy_setopt(easy.get(), option, value) == CURLE_OK);
  };
  set(CURLOPT_CURLU, url);
  set(CURLOPT_PROTOCOLS_STR, "http,https");
  set(CURLOPT_FOLLOWLOCATION, 0L);
  set(CURLOPT_PROXY, "");  // not even from the environment
  set(CURLOPT_NETRC, static_cast<long>(CURL_NETRC_IGNORED));
  set(CURLOPT_NOSIGNAL, 1L);
  set(CURLOPT_TIMEOUT_MS, static_cast<long>(left.count()));
  set(CURLOPT_USERAGENT, "gem8");
  set(CURLOPT_OPENSOCKETFUNCTION, open_socket);
  set(CURLOPT_OPENSOCKETDATA, &hop);
  set(CURLOPT_WRITEFUNCTION, take_body);
  set(CURLOPT_WRITEDATA, &hop);
  set(CURLOPT_HEADERFUNCTION, count_header);
  set(CURLOPT_HEADERDATA, &hop);
  set(CURLOPT_MAXFILESIZE_LARGE, static_cast<curl_off_t>(hop.policy->max_bytes));
  return easy;
}

Status check_transfer(CURLcode code, const Hop& hop) {
  if (hop.refused_address) {
    return fail(Code::kInvalidArgument, "the URL's host has an address that is not public");
  }
  if (hop.too_large || code == CURLE_FILESIZE_EXCEEDED) {
    return fail(Code::kExhausted, "the URL's content is larger than {} bytes",
                hop.policy->max_bytes);
  }
  if (code == CURLE_OPERATION_TIMEDOUT) {
    return fail(Code::kDeadline, "the URL's content did not arrive within {} ms",
                hop.policy->timeout.count());
  }
  if (code != CURLE_OK) return fail(Code::kUnavailable, "the URL's host could not be reached");
  return {};
}

Status check_status(long status) {
  if (200 <= status && status < 300) return {};
  const bool may_pass = status == 408 || status == 429 || status >= 500;
  return fail(may_pass ? Code::kUnavailable : Code::kInvalidArgument,
              "the URL's host answered with HTTP status {}", status);
}

}  // namespace

std::string normal_host(std::string host) {
  std::ranges::transform(host, host.begin(), [](char c) {
    return 'A' <= c && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  });
  if (host.ends_with('.')) host.pop_back();
  return host;
}

Result<std::vector<std::byte>> fetch_http(const std::string& url, const FetchPolicy& policy) {
  const FetchClock::time_point deadline = FetchClock::now() + policy.timeout;
  std::string next = url;
  for (int n_redirects = 0; n_redirects <= policy.max_redirects; ++n_redirects) {
    GEM8_TRY(const Url parsed, parse_allowed(next, policy));
    // Zero would mean "no limit" to libcurl.
    const auto left = std::max(
        std::chrono::duration_cast<std::chrono::milliseconds>(deadline - FetchClock::now()),
        std::chrono::milliseconds{1});
    Hop hop{.policy = &policy};
    const Easy easy = prepare(parsed.get(), hop, left);
    const CURLcode code = curl_easy_perform(easy.get());
    GEM8_RETURN_IF_ERROR(check_transfer(code, hop));

    const char* redirect = nullptr;
    long status = 0;
    curl_easy_getinfo(easy.get(), CURLINFO_REDIRECT_URL, &redirect);
    curl_easy_getinfo(easy.get(), CURLINFO_RESPONSE_CODE, &status);
    if (redirect == nullptr) {
      GEM8_RETURN_IF_ERROR(check_status(status));
      return std::move(hop.body);
    }
    next = redirect;
  }
  return fail(Code::kInvalidArgument, "more than {} redirects", policy.max_redirects);
}

}  // namespace gem8
