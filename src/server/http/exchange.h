#pragma once

#include <boost/asio/awaitable.hpp>

#include <functional>
#include <string_view>

#include "foundation/result.h"
#include "server/http/message.h"

namespace gem8::http {

template <class T>
using Task = boost::asio::awaitable<T>;

/// One request and its answer, seen by the handler. Everything is called from the handler's
/// coroutine, but for the waker. A Status that fails says that the client is gone (kCancelled), too
/// slow (kDeadline) or that the server stops (kUnavailable): give up.
class Exchange {
 public:
  virtual ~Exchange() = default;

  virtual const Request& request() const = 0;

  /// The whole answer. Once, and not after start_stream().
  virtual Task<Status> respond(Response response) = 0;

  /// The head of a streamed answer; then write() any number of times and finish() once. Every write
  /// reaches the network at once.
  virtual Task<Status> start_stream(StreamHead head) = 0;
  virtual Task<Status> write(std::string_view text) = 0;
  virtual Task<Status> finish() = 0;
  virtual bool streaming() const = 0;

  /// Suspends until the waker was called since the last wait(). Meanwhile it watches the client and
  /// writes the stream's idle text.
  virtual Task<Status> wait() = 0;
  /// May be called from any thread, also when the exchange is over.
  virtual std::function<void()> waker() = 0;
};

using Handler = std::function<Task<void>(Exchange&)>;

}  // namespace gem8::http
