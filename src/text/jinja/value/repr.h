#pragma once

#include <string>

#include "text/jinja/value/value.h"

namespace gem8::jinja {

/// Python's str(value) and repr(value). kType for values that Python prints with their address in
/// memory; kLimit for values nested or shared beyond reason.
Outcome<std::string> to_str(const Value& value);
Outcome<std::string> to_repr(const Value& value);

std::string integer_text(Integer value);
/// Shortest digits that read back, laid out as Python's repr.
std::string float_text(double value);

}  // namespace gem8::jinja
