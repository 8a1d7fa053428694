#pragma once

#include <fmt/format.h>

#include <expected>
#include <string>
#include <string_view>
#include <utility>

#include "foundation/result.h"

namespace gem8::jinja {

/// What kind of failure a template ran into; the classes are those of Jinja2's and Python's
/// exceptions.
enum class ErrorClass {
  kSyntax,       ///< the template is malformed
  kUnknownName,  ///< a filter or test that does not exist, or is not implemented
  kUndefined,    ///< an undefined value was used where a value is needed
  kRaised,       ///< the template called raise_exception
  kForbidden,    ///< the sandbox forbids it
  kType,
  kValue,
  kRuntime,
  kLimit  ///< too many steps, too deep, too long
};

std::string_view class_name(ErrorClass error);

struct TemplateError {
  ErrorClass error = ErrorClass::kRuntime;
  std::string message;
  int line = 0;  ///< of the template, from 1; 0 while not known

  /// kLimit: kExhausted; kSyntax and kUnknownName: kUnsupported (the template, not the request);
  /// all others kInvalidArgument.
  Error to_error() const;
};

template <class T>
using Outcome = std::expected<T, TemplateError>;

template <class... Args>
[[nodiscard]] std::unexpected<TemplateError> failure(ErrorClass error,
                                                     fmt::format_string<Args...> format,
                                                     Args&&... args) {
  return std::unexpected(TemplateError{error, fmt::format(format, std::forward<Args>(args)...), 0});
}

}  // namespace gem8::jinja
