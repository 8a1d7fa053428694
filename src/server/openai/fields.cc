#include "server/openai/fields.h"

#include <charconv>
#include <cmath>

#include "server/openai/error.h"

namespace gem8::openai {
namespace {

std::unexpected<Error> wrong_type(std::string_view key, const Json& found,
                                  std::string_view wanted) {
  return mistyped(key, "{}: found {}, wanted {}", key, found.kind_name(), wanted);
}

}  // namespace

std::optional<double> lax_number(const Json& value) {
  if (value.is_number()) return value.as_double();
  if (value.is_bool()) return value.as_bool() ? 1.0 : 0.0;
  if (!value.is_string()) return std::nullopt;
  const std::string& text = value.as_string();
  double number = 0.0;
  const auto [end, ec] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (ec != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return number;
}

std::optional<std::int64_t> lax_integer(const Json& value) {
  if (value.is_int()) return value.as_int();
  const std::optional<double> number = lax_number(value);
  // 2^63 itself is out; the comparison is exact in double.
  if (!number || *number != std::floor(*number) || !(std::abs(*number) < 0x1p63))
    return std::nullopt;
  return static_cast<std::int64_t>(*number);
}

const Json* Fields::find(std::string_view key) const {
  const Json* value = object_->find(key);
  return value != nullptr && value->is_null() ? nullptr : value;
}

Result<std::optional<std::int64_t>> Fields::integer(std::string_view key) const {
  const Json* value = find(key);
  if (value == nullptr) return std::nullopt;
  const std::optional<std::int64_t> integer = lax_integer(*value);
  if (!integer && value->is_number())
    return mistyped(key, "{}: found {}, wanted an integer of 64 bits", key, to_text(*value));
  if (!integer) return wrong_type(key, *value, "an integer");
  return integer;
}

Result<std::optional<double>> Fields::number(std::string_view key) const {
  const Json* value = find(key);
  if (value == nullptr) return std::nullopt;
  const std::optional<double> number = lax_number(*value);
  if (!number) return wrong_type(key, *value, "a number");
  return number;
}

Result<std::optional<bool>> Fields::boolean(std::string_view key) const {
  const Json* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (!value->is_bool()) return wrong_type(key, *value, "a boolean");
  return value->as_bool();
}

Result<std::optional<std::string>> Fields::string(std::string_view key) const {
  const Json* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (!value->is_string()) return wrong_type(key, *value, "a string");
  return value->as_string();
}

Result<const Json*> Fields::array(std::string_view key) const {
  const Json* value = find(key);
  if (value != nullptr && !value->is_array()) return wrong_type(key, *value, "an array");
  return value;
}

Result<const Json*> Fields::object(std::string_view key) const {
  const Json* value = find(key);
  if (value != nullptr && !value->is_object()) return wrong_type(key, *value, "an object");
  return value;
}

Result<std::vector<TokenId>> Fields::token_ids(std::string_view key) const {
  std::vector<TokenId> ids;
  GEM8_TRY(const Json* items, array(key));
  if (items == nullptr) return ids;
  for (const Json& item : items->as_array()) {
    const std::optional<std::int64_t> id = lax_integer(item);
    if (!id || *id < INT32_MIN || *id > INT32_MAX)
      return mistyped(key, "{}: every element must be a token id", key);
    ids.push_back(TokenId{static_cast<std::int32_t>(*id)});
  }
  return ids;
}

}  // namespace gem8::openai
