#include "foundation/json/fields.h"

namespace gem8 {

const Json* JsonFields::present(std::string_view key) const {
  const Json* value = object_->find(key);
  return value != nullptr && value->is_null() ? nullptr : value;
}

std::unexpected<Error> JsonFields::mistyped(std::string_view key, const Json& found,
                                            std::string_view wanted) const {
  return fail(Code::kCorrupt, "{}: '{}': found {}, wanted {}", name_, key, found.kind_name(),
              wanted);
}

bool JsonFields::has(std::string_view key) const {
  return present(key) != nullptr;
}

Result<std::int64_t> JsonFields::integer(std::string_view key, std::int64_t low,
                                         std::int64_t high) const {
  const Json* value = present(key);
  if (value == nullptr)
    return fail(Code::kCorrupt, "{}: '{}' is missing, wanted an integer", name_, key);
  if (!value->is_int()) return mistyped(key, *value, "an integer");
  if (value->as_int() < low || value->as_int() > high) {
    return fail(Code::kCorrupt, "{}: '{}' is {}, wanted {} to {}", name_, key, value->as_int(), low,
                high);
  }
  return value->as_int();
}

Result<std::int64_t> JsonFields::optional_integer(std::string_view key, std::int64_t fallback,
                                                  std::int64_t low, std::int64_t high) const {
  if (!has(key)) return fallback;
  return integer(key, low, high);
}

Result<double> JsonFields::optional_number(std::string_view key, double fallback) const {
  const Json* value = present(key);
  if (value == nullptr) return fallback;
  if (!value->is_number()) return mistyped(key, *value, "a number");
  return value->as_double();
}

Result<bool> JsonFields::optional_boolean(std::string_view key, bool fallback) const {
  const Json* value = present(key);
  if (value == nullptr) return fallback;
  if (!value->is_bool()) return mistyped(key, *value, "true or false");
  return value->as_bool();
}

Result<std::string> JsonFields::string(std::string_view key) const {
  const Json* value = present(key);
  if (value == nullptr)
    return fail(Code::kCorrupt, "{}: '{}' is missing, wanted a string", name_, key);
  if (!value->is_string()) return mistyped(key, *value, "a string");
  return value->as_string();
}

Result<std::string> JsonFields::optional_string(std::string_view key,
                                                std::string_view fallback) const {
  if (!has(key)) return std::string(fallback);
  return string(key);
}

Result<const Json*> JsonFields::object(std::string_view key) const {
  const Json* value = present(key);
  if (value == nullptr)
    return fail(Code::kCorrupt, "{}: '{}' is missing, wanted an object", name_, key);
  if (!value->is_object()) return mistyped(key, *value, "an object");
  return value;
}

Result<const Json*> JsonFields::optional_object(std::string_view key) const {
  if (!has(key)) return nullptr;
  return object(key);
}

Result<const Json*> JsonFields::optional_array(std::string_view key) const {
  const Json* value = present(key);
  if (value == nullptr) return nullptr;
  if (!value->is_array()) return mistyped(key, *value, "an array");
  return value;
}

}  // namespace gem8
