#include "text/jinja/error.h"

namespace gem8::jinja {

std::string_view class_name(ErrorClass error) {
  switch (error) {
    case ErrorClass::kSyntax:
      return "syntax";
    case ErrorClass::kUnknownName:
      return "unknown_name";
    case ErrorClass::kUndefined:
      return "undefined";
    case ErrorClass::kRaised:
      return "raised";
    case ErrorClass::kForbidden:
      return "forbidden";
    case ErrorClass::kType:
      return "type";
    case ErrorClass::kValue:
      return "value";
    case ErrorClass::kRuntime:
      return "runtime";
    case ErrorClass::kLimit:
      return "limit";
  }
  return "runtime";
}

Error TemplateError::to_error() const {
  const Code code = error == ErrorClass::kLimit ? Code::kExhausted
                    : error == ErrorClass::kSyntax || error == ErrorClass::kUnknownName
                        ? Code::kUnsupported
                        : Code::kInvalidArgument;
  if (error == ErrorClass::kRaised)
    return {code, message, {}};  // written for whoever sent the request
  if (line == 0) return {code, fmt::format("chat template: {}", message), {}};
  return {code, fmt::format("chat template, line {}: {}", line, message), {}};
}

}  // namespace gem8::jinja
