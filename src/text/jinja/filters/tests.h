#pragma once

#include <string_view>

#include "text/jinja/runtime.h"
#include "text/jinja/value/object.h"

namespace gem8::jinja {

/// Jinja2's built-in tests ("x is ...").
bool is_test(std::string_view name);
/// positional[0] is name(the rest). kRuntime for a name that is no test's.
Outcome<bool> apply_test(Runtime& runtime, std::string_view name, Arguments arguments);

}  // namespace gem8::jinja
