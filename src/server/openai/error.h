#pragma once

#include <string>

#include "foundation/json/json.h"
#include "foundation/result.h"

namespace gem8::openai {

/// An error as HTTP and OpenAI clients see it.
struct ApiError {
  int status = 500;
  std::string type;  ///< "BadRequestError"
  std::string message;
  std::string param;  ///< the request's field; empty: null
};

/// The one place where codes become statuses and types. An error's context is the request field it
/// is about.
ApiError api_error(const Error& error);

/// For what the transport refuses before there is a request: the type that belongs to a status.
ApiError api_error(int status, std::string message);

/// {"error": {"message", "type", "param", "code"}}
Json error_body(const ApiError& error);

/// A wrong value of a field: kInvalidArgument with the field as its context.
template <class... Args>
[[nodiscard]] std::unexpected<Error> bad_field(std::string_view param,
                                               fmt::format_string<Args...> format, Args&&... args) {
  return std::unexpected(Error{Code::kInvalidArgument,
                               fmt::format(format, std::forward<Args>(args)...),
                               std::string(param)});
}

/// A field of the wrong JSON type, or missing: kCorrupt.
template <class... Args>
[[nodiscard]] std::unexpected<Error> mistyped(std::string_view param,
                                              fmt::format_string<Args...> format, Args&&... args) {
  return std::unexpected(
      Error{Code::kCorrupt, fmt::format(format, std::forward<Args>(args)...), std::string(param)});
}

}  // namespace gem8::openai
