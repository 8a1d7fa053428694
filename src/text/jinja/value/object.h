#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string_view>

#include "text/jinja/value/value.h"

namespace gem8::jinja {

class Runtime;

/// What a call passes. For filters and tests the first positional argument is the value on the
/// left.
struct Arguments {
  List positional;
  std::vector<std::pair<std::string, Value>> named;
};

/// Something with behaviour: functions, macros, loop variables.
struct Object : std::enable_shared_from_this<Object> {
  virtual ~Object() = default;
  virtual std::string_view type_name() const = 0;
  /// Nothing when it has no such attribute. The sandbox's own names never come here.
  virtual std::optional<Value> attribute(std::string_view) { return std::nullopt; }
  virtual bool callable() const { return true; }
  /// Only when callable().
  virtual Outcome<Value> call(Runtime& runtime, Arguments arguments) = 0;
};

/// A function, or a method bound to its object.
struct Function : Object {
  using Body = std::function<Outcome<Value>(Runtime& runtime, Arguments arguments)>;

  std::string_view type;
  Body body;
  Function(std::string_view kind, Body does) : type(kind), body(std::move(does)) {}
  std::string_view type_name() const override { return type; }
  Outcome<Value> call(Runtime& runtime, Arguments arguments) override {
    return body(runtime, std::move(arguments));
  }
};

}  // namespace gem8::jinja
