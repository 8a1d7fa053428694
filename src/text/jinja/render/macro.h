#pragma once

#include <string>

#include "text/jinja/render/scope.h"
#include "text/jinja/syntax/ast.h"
#include "text/jinja/value/object.h"

namespace gem8::jinja {

class Renderer;

/// A macro, or the body of a call block.
class Macro : public Object {
 public:
  Macro(Renderer& renderer, const Statement& definition, std::string name, ScopePtr scope);

  std::string_view type_name() const override { return "Macro"; }
  std::optional<Value> attribute(std::string_view name) override;
  /// The text its body renders as.
  Outcome<Value> call(Runtime& runtime, Arguments arguments) override;

 private:
  /// The arguments as names of the body's scope.
  Outcome<void> bind(Runtime& runtime, Arguments arguments, Scope& scope) const;
  bool is_parameter(std::string_view name) const;

  Renderer& renderer_;
  const Statement& definition_;
  std::string name_;
  ScopePtr scope_;  ///< where it was defined
  bool uses_varargs_, uses_kwargs_, uses_caller_;
};

}  // namespace gem8::jinja
