#pragma once

#include <string>
#include <string_view>

#include "text/jinja/runtime.h"
#include "text/jinja/value/object.h"

namespace gem8::jinja {

/// Python's "format % arguments".
Outcome<std::string> percent_format(Runtime& runtime, std::string_view format,
                                    const Value& arguments);
/// Python's format.format(*arguments, **named).
Outcome<std::string> brace_format(Runtime& runtime, std::string_view format,
                                  const Arguments& arguments);

}  // namespace gem8::jinja
