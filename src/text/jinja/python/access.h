#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "text/jinja/runtime.h"

namespace gem8::jinja {

/// The values a for loop would see. Empties a generator.
Outcome<List> iterate(Runtime& runtime, const Value& value);
Outcome<std::int64_t> length_of(const Value& value);

/// The attribute Python's getattr finds, a forbidden undefined value for what the sandbox hides, or
/// nothing.
std::optional<Value> own_attribute(const Value& object, std::string_view name);
/// a.name and a[key] as Jinja2 resolves them: a miss is an undefined value, not an error.
Outcome<Value> attribute(const Value& object, std::string_view name);
Outcome<Value> subscript(Runtime& runtime, const Value& object, const Value& key);
/// a[start:stop:step]; null: not given.
Outcome<Value> slice(Runtime& runtime, const Value& object, const Value* start, const Value* stop,
                     const Value* step);
/// A value's member by a path such as "function.name" or "0"; `fallback` in place of undefined.
Outcome<Value> member(Runtime& runtime, Value value, const Value& path,
                      const Value* fallback = nullptr);

}  // namespace gem8::jinja
