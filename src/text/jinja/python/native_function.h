#pragma once

#include <initializer_list>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "text/jinja/runtime.h"
#include "text/jinja/value/object.h"

namespace gem8::jinja {

/// A call's arguments by parameter, absent ones empty.
class Bound {
 public:
  Bound(std::string_view name, std::size_t n) : function(name), values_(n) {}

  const std::optional<Value>& operator[](std::size_t i) const { return values_[i]; }
  std::optional<Value>& operator[](std::size_t i) { return values_[i]; }
  /// Given, and not None.
  bool has(std::size_t i) const { return values_[i] && !values_[i]->is_none(); }

  bool flag(std::size_t i) const { return values_[i] && values_[i]->truthy(); }
  /// An integer; `fallback` for None too.
  Outcome<std::int64_t> integer(std::size_t i, std::int64_t fallback) const;
  /// str() of it.
  Outcome<std::string> str(std::size_t i, std::string_view fallback) const;
  /// A text and nothing else.
  Outcome<std::string> text(std::size_t i) const;

  std::string_view function;
  Arguments rest;  ///< what a "*" took

 private:
  std::vector<std::optional<Value>> values_;
};

using NativeBody = Outcome<Value>(Runtime& runtime, const Bound& arguments);

/// A function of the host's, described as Python's signatures do: "/" ends the parameters that
/// cannot be named, "*" comes last and takes any further argument. Methods have themselves as
/// first parameter, filters the value on their left. One without a body is known, and refused when
/// called.
struct NativeFunction {
  std::string_view name;
  NativeBody* body;
  std::initializer_list<std::string_view> parameters;
  std::size_t n_required;
};

/// kType for too many, too few, unknown or doubled arguments.
Outcome<Bound> bind(std::string_view function, Arguments arguments,
                    std::initializer_list<std::string_view> parameters, std::size_t n_required);

const NativeFunction* find(std::span<const NativeFunction> functions, std::string_view name);
Outcome<Value> call(Runtime& runtime, const NativeFunction& function, Arguments arguments);

}  // namespace gem8::jinja
