#pragma once

#include <ctime>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "text/jinja/value.h"

namespace gem8::jinja {

/// What a call passes. For filters and tests the first positional argument is the value on the
/// left.
struct Arguments {
  List positional;
  std::vector<std::pair<std::string, Value>> named;
};

/// What filters, tests, methods and operators need of the renderer: its budget, and the way back
/// into it.
class Runtime {
 public:
  virtual ~Runtime() = default;

  /// Takes `n` units from the budget of steps; kLimit when it is spent. One unit is about one node,
  /// one list item or 64 bytes.
  virtual Outcome<void> charge(std::uint64_t n) = 0;
  virtual Outcome<Value> call(const Value& callee, Arguments arguments) = 0;
  /// Local time now, as strftime_now sees it.
  virtual std::tm now() const = 0;
};

/// The arguments by parameter, absent ones empty. kType for too many, unknown or doubled ones.
Outcome<std::vector<std::optional<Value>>> bind_arguments(
    std::string_view function, Arguments arguments, std::initializer_list<std::string_view> names,
    std::size_t n_required);

// --- operators (operations.cc) ---
Outcome<Value> binary_operation(Runtime& runtime, std::string_view op, const Value& a,
                                const Value& b);
Outcome<Value> negate(const Value& a);
Outcome<bool> contains(Runtime& runtime, const Value& container, const Value& item);
/// op: == != < <= > >= in "not in".
Outcome<bool> compare(Runtime& runtime, std::string_view op, const Value& a, const Value& b);
/// The values a for loop would see. Empties a generator.
Outcome<List> iterate(Runtime& runtime, const Value& value);
Outcome<std::int64_t> length_of(const Value& value);
/// a.name and a[key] as Jinja2 resolves them: a miss is an undefined value, not an error.
Outcome<Value> attribute(const Value& object, std::string_view name);
Outcome<Value> subscript(Runtime& runtime, const Value& object, const Value& key);
Outcome<Value> slice(Runtime& runtime, const Value& object, const Value* start, const Value* stop,
                     const Value* step);
/// An error where a value is needed and `value` is undefined.
Outcome<void> need_defined(const Value& value);
Outcome<std::int64_t> need_integer(const Value& value, std::string_view what);
Outcome<std::string> need_text(const Value& value, std::string_view what);
/// An error for a list or dict, alone or inside tuples: no key of a dict, nothing to be unique.
Outcome<void> need_hashable(const Value& value);

// --- text (formatting.cc) ---
/// Python's "format % arguments".
Outcome<std::string> percent_format(Runtime& runtime, std::string_view format,
                                    const Value& arguments);
/// Python's format.format(*arguments, **named).
Outcome<std::string> brace_format(Runtime& runtime, std::string_view format,
                                  const Arguments& arguments);

// --- methods of str, list, dict, numbers (methods.cc) ---
/// The bound method, a forbidden undefined value for what the sandbox hides, or nothing when the
/// type has no such name.
std::optional<Value> method(const Value& object, std::string_view name);

struct Method : Object {
  Value self;
  std::string name;
  std::string_view type_name() const override { return "builtin_function_or_method"; }
};
Outcome<Value> call_method(Runtime& runtime, const Method& method, Arguments arguments);

// --- tojson (json_text.cc) ---
struct JsonText {
  bool ascii = false;
  std::optional<std::string> indent;  ///< white space per level
  std::string item_separator = ", ";
  std::string key_separator = ": ";
  bool sort_keys = false;
};
Outcome<std::string> to_json(const Value& value, const JsonText& style);

}  // namespace gem8::jinja
