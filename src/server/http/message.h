#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace gem8::http {

using Headers = std::vector<std::pair<std::string, std::string>>;

/// A whole request: it is handed on when its body has arrived.
struct Request {
  std::string method;  ///< "GET"
  std::string path;    ///< of the target, up to the '?'; as sent, not decoded
  std::string query;   ///< behind the '?'
  Headers headers;
  std::string body;
  std::string remote;  ///< "127.0.0.1:52460"

  /// The first header of that name, whatever its case; empty when there is none.
  std::string_view header(std::string_view name) const;
};

struct Response {
  int status = 200;
  std::string content_type = "application/json";  ///< empty: no header, for an empty body
  std::string body;
  Headers headers;
};

/// The start of a body whose length nobody knows yet.
struct StreamHead {
  int status = 200;
  std::string content_type;
  Headers headers;
  std::string idle_text;  ///< written when nothing else was for idle_seconds; a comment in the
                          ///< language of the content type
  int idle_seconds = 0;   ///< 0: never
};

/// "Not Found"; "Unknown" for numbers that are no status.
std::string_view reason_phrase(int status);

}  // namespace gem8::http
