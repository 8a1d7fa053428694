#pragma once

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace gem8::testing {

/// A blocking HTTP/1.1 client over one loopback connection that shows what is on the wire.
/// Everything gives up after a minute.
class HttpClient {
 public:
  struct Reply {
    int status = 0;
    std::vector<std::pair<std::string, std::string>> headers;  ///< names in lower case
    std::string body;                                          ///< chunks joined
    std::vector<std::string> chunks;                           ///< as they were sent, when chunked

    std::string header(std::string_view name) const {
      for (const auto& [key, value] : headers) {
        if (key == name) return value;
      }
      return {};
    }
  };

  explicit HttpClient(std::uint16_t port) {
    fd_ = ::socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    connected_ = ::connect(fd_, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
  }
  ~HttpClient() { close(); }
  HttpClient(const HttpClient&) = delete;
  HttpClient& operator=(const HttpClient&) = delete;

  bool connected() const { return connected_; }

  void close() {
    if (fd_ >= 0) ::close(fd_);
    fd_ = -1;
  }
  void shut_down_writing() { ::shutdown(fd_, SHUT_WR); }

  void send(std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t n = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (n <= 0) return;
      bytes.remove_prefix(static_cast<std::size_t>(n));
    }
  }

  static std::string request(std::string_view method, std::string_view path,
                             std::string_view body = {}, std::string_view more_headers = {}) {
    std::string text;
    text.append(method)
        .append(" ")
        .append(path)
        .append(" HTTP/1.1\r\nHost: localhost\r\n")
        .append(more_headers);
    if (!body.empty()) {
      if (more_headers.find("ontent-") == std::string_view::npos)
        text.append("Content-Type: application/json\r\n");
      text.append("Content-Length: ").append(std::to_string(body.size())).append("\r\n");
    }
    return text.append("\r\n").append(body);
  }

  /// Sends a request and reads its answer.
  Reply ask(std::string_view method, std::string_view path, std::string_view body = {},
            std::string_view more_headers = {}) {
    send(request(method, path, body, more_headers));
    return read_reply();
  }

  /// One line with its CRLF cut off; false at the end of the connection.
  bool read_line(std::string& line) {
    for (;;) {
      const std::size_t end = buffer_.find("\r\n");
      if (end != std::string::npos) {
        line = buffer_.substr(0, end);
        buffer_.erase(0, end + 2);
        return true;
      }
      if (!fill()) return false;
    }
  }

  /// Status line and headers; interim responses are counted and skipped.
  bool read_head(Reply& reply) {
    do {
      reply = {};
      std::string line;
      if (!read_line(line) || line.size() < 12) return false;
      reply.status = std::stoi(line.substr(9, 3));
      while (read_line(line) && !line.empty()) {
        const std::size_t colon = line.find(':');
        std::string name = line.substr(0, colon);
        for (char& c : name) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
        const std::size_t value = line.find_first_not_of(' ', colon + 1);
        reply.headers.emplace_back(name, value == std::string::npos ? "" : line.substr(value));
      }
      if (reply.status < 200) ++n_interim_;
    } while (reply.status < 200);
    return true;
  }

  /// The next chunk of a chunked body; empty at its end.
  bool read_chunk(std::string& chunk) {
    std::string line;
    if (!read_line(line)) return false;
    const std::size_t size = std::stoul(line, nullptr, 16);
    while (buffer_.size() < size + 2) {
      if (!fill()) return false;
    }
    chunk = buffer_.substr(0, size);
    buffer_.erase(0, size + 2);
    return true;
  }

  Reply read_reply() {
    Reply reply;
    if (!read_head(reply)) return {};
    if (reply.header("transfer-encoding") == "chunked") {
      std::string chunk;
      while (read_chunk(chunk) && !chunk.empty()) {
        reply.body += chunk;
        reply.chunks.push_back(chunk);
      }
    } else if (const std::string length = reply.header("content-length"); !length.empty()) {
      const std::size_t size = std::stoul(length);
      while (buffer_.size() < size && fill()) {
      }
      reply.body = buffer_.substr(0, size);
      buffer_.erase(0, size);
    } else {
      while (fill()) {
      }
      reply.body = std::exchange(buffer_, {});
    }
    return reply;
  }

  /// Whether the server has closed its side, waiting up to a minute for it.
  bool at_end() { return buffer_.empty() && !fill(); }
  int n_interim() const { return n_interim_; }

 private:
  bool fill() {
    pollfd poll_fd{fd_, POLLIN, 0};
    if (::poll(&poll_fd, 1, 10'000) <= 0) return false;
    char bytes[1 << 16];
    const ssize_t n = ::recv(fd_, bytes, sizeof bytes, 0);
    if (n <= 0) return false;
    buffer_.append(bytes, static_cast<std::size_t>(n));
    return true;
  }

  int fd_ = -1;
  bool connected_ = false;
  std::string buffer_;
  int n_interim_ = 0;
};

}  // namespace gem8::testing
