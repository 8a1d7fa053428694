#pragma once

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <thread>

namespace gem8::testing {

/// An HTTP server on a free port of 127.0.0.1 that answers every connection with what `answer`
/// makes of the request's head, byte for byte, and closes it. One connection at a time.
class LoopbackServer {
 public:
  /// `answer` runs on the server's thread. An empty answer leaves the connection open and silent
  /// until the server ends.
  explicit LoopbackServer(std::function<std::string(std::string_view head)> answer)
      : answer_(std::move(answer)), listener_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    EXPECT_EQ(::bind(listener_, reinterpret_cast<sockaddr*>(&address), size), 0);
    EXPECT_EQ(::listen(listener_, 16), 0);
    EXPECT_EQ(::getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size), 0);
    port_ = ntohs(address.sin_port);
    thread_ = std::jthread([this](std::stop_token stop) { serve(stop); });
  }
  LoopbackServer(const LoopbackServer&) = delete;
  LoopbackServer& operator=(const LoopbackServer&) = delete;
  ~LoopbackServer() {
    thread_.request_stop();
    thread_.join();
    ::close(listener_);
  }

  std::uint16_t port() const { return port_; }
  std::string url(std::string_view path, std::string_view host = "127.0.0.1") const {
    return "http://" + std::string(host) + ":" + std::to_string(port_) + std::string(path);
  }
  int n_connections() const { return n_connections_; }

 private:
  static constexpr int kPollMs = 10;

  static bool readable(int fd) {
    pollfd wait{.fd = fd, .events = POLLIN, .revents = 0};
    return ::poll(&wait, 1, kPollMs) == 1;
  }

  void serve(std::stop_token stop) {
    while (!stop.stop_requested()) {
      if (!readable(listener_)) continue;
      const int connection = ::accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
      if (connection < 0) continue;
      ++n_connections_;
      std::string head;
      while (!stop.stop_requested() && head.find("\r\n\r\n") == std::string::npos) {
        if (!readable(connection)) continue;
        char buffer[4096];
        const ssize_t n = ::recv(connection, buffer, sizeof buffer, 0);
        if (n <= 0) break;
        head.append(buffer, static_cast<std::size_t>(n));
      }
      std::string answer = answer_(head);
      if (answer.empty()) {
        while (!stop.stop_requested() && !readable(connection)) {
        }
      }
      for (std::string_view rest = answer; !rest.empty();) {
        const ssize_t n = ::send(connection, rest.data(), rest.size(), MSG_NOSIGNAL);
        if (n <= 0) break;
        rest.remove_prefix(static_cast<std::size_t>(n));
      }
      ::close(connection);
    }
  }

  std::function<std::string(std::string_view)> answer_;
  int listener_;
  std::uint16_t port_ = 0;
  std::atomic<int> n_connections_{0};
  std::jthread thread_;  // last: it uses everything above
};

inline std::string http_ok(std::string_view body) {
  return "HTTP/1.1 200 OK\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" +
         std::string(body);
}

inline std::string http_redirect(std::string_view to) {
  return "HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: " + std::string(to) + "\r\n\r\n";
}

}  // namespace gem8::testing
