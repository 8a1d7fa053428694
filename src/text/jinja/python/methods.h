#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "text/jinja/runtime.h"

namespace gem8::jinja {

/// An attribute or bound method of a value of Python's built-in types, a forbidden undefined value
/// for what the sandbox hides, or nothing when the type has no such name.
std::optional<Value> method(const Value& object, std::string_view name);

/// self.name(arguments); `name` is a method of str.
Outcome<Value> call_text_method(Runtime& runtime, std::string_view name, std::string self,
                                List arguments);

}  // namespace gem8::jinja
