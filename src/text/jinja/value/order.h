#pragma once

#include "text/jinja/value/value.h"

namespace gem8::jinja {

/// a == b, as Python has it.
bool equal(const Value& a, const Value& b);
/// Whether a sorts before b; kType for values Python does not order.
Outcome<bool> less(const Value& a, const Value& b);

}  // namespace gem8::jinja
