#pragma once

#include <string_view>

#include "text/jinja/runtime.h"

namespace gem8::jinja {

/// op: + - * / // % **
Outcome<Value> binary_operation(Runtime& runtime, std::string_view op, const Value& a,
                                const Value& b);
Outcome<Value> negate(const Value& a);
Outcome<Value> plus(const Value& a);

/// op: == != < <= > >= in "not in".
Outcome<bool> compare(Runtime& runtime, std::string_view op, const Value& a, const Value& b);
Outcome<bool> contains(Runtime& runtime, const Value& container, const Value& item);

}  // namespace gem8::jinja
