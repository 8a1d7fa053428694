#include "text/jinja/python/need.h"

namespace gem8::jinja {

Outcome<void> need_defined(const Value& value) {
  const auto* undefined = value.get<Value::Undefined>();
  if (undefined == nullptr) return {};
  return failure(undefined->forbidden ? ErrorClass::kForbidden : ErrorClass::kUndefined, "{}",
                 undefined->why ? *undefined->why : "the value is undefined");
}

Outcome<std::int64_t> need_integer(const Value& value, std::string_view what) {
  GEM8_RETURN_IF_ERROR(need_defined(value));
  const auto integer = value.integer();
  if (!integer)
    return failure(ErrorClass::kType, "{}: '{}' object cannot be interpreted as an integer", what,
                   value.type_name());
  if (*integer > INT64_MAX || *integer < INT64_MIN)
    return failure(ErrorClass::kLimit, "{}: the number is too large", what);
  return static_cast<std::int64_t>(*integer);
}

Outcome<std::string> need_text(const Value& value, std::string_view what) {
  GEM8_RETURN_IF_ERROR(need_defined(value));
  if (!value.is_string())
    return failure(ErrorClass::kType, "{}: expected str, found {}", what, value.type_name());
  return value.text();
}

Outcome<void> need_hashable(const Value& value) {
  const auto* sequence = value.get<Value::Sequence>();
  if (value.mapping() != nullptr || (sequence != nullptr && !sequence->is_tuple))
    return failure(ErrorClass::kType, "unhashable type: '{}'", value.type_name());
  if (sequence != nullptr) {
    for (const Value& item : *sequence->items) GEM8_RETURN_IF_ERROR(need_hashable(item));
  }
  return {};
}

Outcome<void> need_allowed(const Value& value) {
  const auto* undefined = value.get<Value::Undefined>();
  if (undefined != nullptr && undefined->forbidden) return need_defined(value);
  return {};
}

}  // namespace gem8::jinja
