#pragma once

#include "text/jinja/python/native_function.h"

namespace gem8::jinja {

/// str.find, rfind, index, rindex and count; startswith and endswith.
NativeBody find_text, match_end;

}  // namespace gem8::jinja
