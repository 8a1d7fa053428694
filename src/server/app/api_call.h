#pragma once

#include <string>
#include <string_view>

#include "server/app/api.h"
#include "server/app/arriving.h"

namespace gem8::app {

/// A request on its way through a route.
struct Api::Call {
  http::Exchange& exchange;
  Clock::time_point received;
  std::string path;        ///< without prefix and trailing slash
  std::string request_id;  ///< what X-Request-Id answers
  int status = 0;          ///< sent

  const http::Request& request() const { return exchange.request(); }
};

/// A body up to this size is read at once, without a change of threads. As many one-letter messages
/// as it holds, 120, take some 25 ms with Gemma's template on two busy cores; in four times the
/// size they take 20 times as long.
inline constexpr std::size_t kShortBody = 4 << 10;

template <class T>
http::Task<Result<T>> Api::read_body(Call& call,
                                     Result<T> (Api::*read)(std::string_view body) const) {
  const std::string& body = call.request().body;
  if (body.size() <= kShortBody) co_return (this->*read)(body);
  Arriving<T> arriving(call.exchange);
  // A copy of the body: the client may leave, and its request with it, before the job ends.
  readers_.submit(
      [this, read, body = std::string(body), receive = arriving.receiver()](const Status& go) {
        receive(go ? (this->*read)(body) : Result<T>(std::unexpected(go.error())));
      });
  co_return co_await arriving.wait();
}

}  // namespace gem8::app
