#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "text/jinja/value/value.h"

namespace gem8::jinja {

/// An error where a value is needed and `value` is undefined: kUndefined, or kForbidden where the
/// sandbox made it so.
Outcome<void> need_defined(const Value& value);
Outcome<std::int64_t> need_integer(const Value& value, std::string_view what);
Outcome<std::string> need_text(const Value& value, std::string_view what);
/// An error for a list or dict, alone or inside tuples: no key of a dict, nothing to be unique.
Outcome<void> need_hashable(const Value& value);
/// Where undefined values are empty or false: an error only for the sandbox's own.
Outcome<void> need_allowed(const Value& value);

}  // namespace gem8::jinja
