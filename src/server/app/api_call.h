#pragma once

#include <string>
#include <string_view>

#include "server/app/api.h"

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

}  // namespace gem8::app
