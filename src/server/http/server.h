#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "foundation/result.h"
#include "server/http/exchange.h"

namespace gem8::http {

struct ServerOptions {
  std::string host = "0.0.0.0";
  std::uint16_t port = 8000;                       ///< 0: any free one
  std::size_t n_threads = 2;                       ///< of I/O: parsing, templates, tokenizing
  std::chrono::milliseconds idle_timeout{75'000};  ///< between requests of a connection
  std::chrono::milliseconds header_timeout{
      30'000};  ///< from a request's first byte to the end of its header
  std::chrono::milliseconds body_timeout{120'000};
  std::chrono::milliseconds write_timeout{30'000};  ///< of one write
  std::chrono::milliseconds drain_timeout{
      30'000};  ///< how long a stop waits for answers in progress; 0: it does not
  std::size_t max_header_bytes = 4u << 20;
  std::size_t max_headers = 256;
  std::size_t max_body_bytes = 256u << 20;
  std::size_t max_connections = 4096;  ///< more are closed as they come
  bool access_log = true;
  /// The body of an answer that the transport itself gives: 400, 413, 431, 500, 501.
  std::function<Response(int status, std::string message)> error_response;
};

/// HTTP/1.1 with keep-alive and chunked streams. One coroutine a connection; a slow client meets a
/// deadline at every read and write.
class Server {
 public:
  /// Takes the port; connections are still refused. Errors: kUnavailable when the port is in use,
  /// kInvalidArgument for a host that cannot be bound.
  static Result<std::unique_ptr<Server>> bind(const ServerOptions& options);
  virtual ~Server() = default;

  virtual std::uint16_t port() const = 0;

  /// From here on clients may connect; they are answered once run() does. Error: kUnavailable as
  /// bind(), when another program was faster.
  virtual Status listen() = 0;

  /// Serves until stop(). SIGINT and SIGTERM call stop(), a second one ends the draining. The first
  /// signal's number, or 0.
  virtual int run(Handler handler) = 0;
  /// Listens no more, lets answers in progress finish for drain_timeout, then breaks them off. From
  /// any thread.
  virtual void stop() = 0;
};

}  // namespace gem8::http
