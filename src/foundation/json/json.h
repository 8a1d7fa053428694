#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "foundation/result.h"

namespace gem8 {

struct JsonMember;

/// A JSON value that keeps what others lose: the order of object members, and whether a number was
/// written as an integer. Copying copies deeply. The accessors as_*() are for values whose kind was
/// checked; parsing code uses json/fields.h.
class Json {
 public:
  using Array = std::vector<Json>;
  using Object = std::vector<JsonMember>;  ///< in document order; parse_json refuses duplicate keys
                                           ///< unless told to keep them
  /// An integer outside int64: its digits as written, so that nothing is rounded on the way
  /// through.
  struct BigInteger {
    std::string digits;
  };

  // Defined below JsonMember: a compiler may need the whole type for any of them.
  Json();
  Json(const Json& other);
  Json(Json&& other) noexcept;
  Json& operator=(const Json& other);
  Json& operator=(Json&& other) noexcept;
  ~Json();
  Json(std::nullptr_t);          // NOLINT: values convert to Json
  Json(bool value);              // NOLINT
  Json(double value);            // NOLINT
  Json(const char* value);       // NOLINT
  Json(std::string_view value);  // NOLINT
  Json(std::string value);       // NOLINT
  Json(BigInteger value);        // NOLINT
  Json(Array value);             // NOLINT
  Json(Object value);            // NOLINT
  template <class Int>
  requires(std::is_integral_v<Int> && !std::is_same_v<Int, bool>) Json(Int value);  // NOLINT

  static Json array(std::initializer_list<Json> items = {});
  static Json object(std::initializer_list<std::pair<std::string_view, Json>> members = {});

  bool is_null() const { return std::holds_alternative<std::monostate>(value_); }
  bool is_bool() const { return std::holds_alternative<bool>(value_); }
  bool is_int() const { return std::holds_alternative<std::int64_t>(value_); }
  bool is_double() const { return std::holds_alternative<double>(value_); }
  bool is_big_integer() const { return std::holds_alternative<BigInteger>(value_); }
  bool is_number() const { return is_int() || is_double() || is_big_integer(); }
  bool is_string() const { return std::holds_alternative<std::string>(value_); }
  bool is_array() const { return std::holds_alternative<Array>(value_); }
  bool is_object() const { return std::holds_alternative<Object>(value_); }
  /// "null", "boolean", "integer", "number", "string", "array", "object": for messages.
  std::string_view kind_name() const;

  bool as_bool() const { return std::get<bool>(value_); }
  std::int64_t as_int() const { return std::get<std::int64_t>(value_); }
  /// Any number as double (an integer beyond 2^53 is rounded).
  double as_double() const;
  const BigInteger& as_big_integer() const { return std::get<BigInteger>(value_); }
  const std::string& as_string() const { return std::get<std::string>(value_); }
  const Array& as_array() const { return std::get<Array>(value_); }
  Array& as_array() { return std::get<Array>(value_); }
  const Object& as_object() const { return std::get<Object>(value_); }
  Object& as_object() { return std::get<Object>(value_); }

  /// The member's value, or nullptr when this is no object or has no such member. Linear: objects
  /// here are small; a reader of large ones iterates as_object() once.
  const Json* find(std::string_view key) const;
  Json* find(std::string_view key);
  /// Adds the member or replaces its value. A null becomes an object first.
  void set(std::string_view key, Json value);
  void push_back(Json value);

  friend bool operator==(const Json& a, const Json& b);

 private:
  std::variant<std::monostate, bool, std::int64_t, double, BigInteger, std::string, Array, Object>
      value_;
};

struct JsonMember {
  std::string key;
  Json value;
  friend bool operator==(const JsonMember& a, const JsonMember& b);
};

inline Json::Json() = default;
inline Json::Json(const Json& other) = default;
inline Json::Json(Json&& other) noexcept = default;
inline Json& Json::operator=(const Json& other) = default;
inline Json& Json::operator=(Json&& other) noexcept = default;
inline Json::~Json() = default;
inline Json::Json(std::nullptr_t) {}
inline Json::Json(bool value) : value_(value) {}
inline Json::Json(double value) : value_(value) {}
inline Json::Json(const char* value) : value_(std::string(value)) {}
inline Json::Json(std::string_view value) : value_(std::string(value)) {}
inline Json::Json(std::string value) : value_(std::move(value)) {}
inline Json::Json(BigInteger value) : value_(std::move(value)) {}
template <class Int>
requires(std::is_integral_v<Int> && !std::is_same_v<Int, bool>) Json::Json(Int value)
    : value_(static_cast<std::int64_t>(value)) {}

struct JsonLimits {
  std::size_t max_bytes = std::size_t{256} << 20;
  std::size_t max_depth = 64;
  bool keep_duplicate_keys =
      false;  ///< every occurrence becomes a member: for readers that report them themselves
};

/// The one JSON document in `text`. Errors: kCorrupt with the byte offset for malformed text,
/// invalid UTF-8, duplicate keys, depth; kExhausted when the text is larger than the limit. Strings
/// in the result are valid UTF-8.
Result<Json> parse_json(std::string_view text, const JsonLimits& limits = {});

struct JsonStyle {
  int indent = 0;      ///< 0: one line, no spaces
  bool ascii = false;  ///< escape everything above 0x7F
  bool python_spaces =
      false;  ///< ", " and ": " as Python's json.dumps writes by default (one-line form)
};

/// Shortest text that reads back as the same value; doubles are written so that they stay doubles
/// ("1.0"). NaN and infinities, which JSON lacks, are written as null.
std::string to_text(const Json& value, const JsonStyle& style = {});

}  // namespace gem8
