#pragma once

#include <string_view>

#include "text/jinja/runtime.h"
#include "text/jinja/value/object.h"

namespace gem8::jinja {

bool is_filter(std::string_view name);
/// positional[0] | name(the rest). kRuntime for a name that is no filter's; the parser has checked
/// those it saw.
Outcome<Value> apply_filter(Runtime& runtime, std::string_view name, Arguments arguments);

}  // namespace gem8::jinja
