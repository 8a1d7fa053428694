#pragma once

#include <string_view>

#include "text/jinja/runtime.h"

namespace gem8::jinja {

bool is_filter(std::string_view name);
bool is_test(std::string_view name);

/// positional[0] | name(the rest). The name is a filter's (the parser has checked) or kRuntime.
Outcome<Value> apply_filter(Runtime& runtime, std::string_view name, Arguments arguments);
/// positional[0] is name(the rest).
Outcome<bool> apply_test(Runtime& runtime, std::string_view name, Arguments arguments);

}  // namespace gem8::jinja
