#pragma once

#include <span>

#include "text/jinja/python/native_function.h"

namespace gem8::jinja {

/// The methods of Python's str.
std::span<const NativeFunction> text_methods();

}  // namespace gem8::jinja
