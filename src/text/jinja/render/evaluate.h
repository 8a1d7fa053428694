#pragma once

#include "text/jinja/render/scope.h"
#include "text/jinja/runtime.h"
#include "text/jinja/syntax/ast.h"
#include "text/jinja/value/object.h"

namespace gem8::jinja {

/// The value of an expression among the names of `scope`.
Outcome<Value> evaluate(Runtime& runtime, const Expr& expr, const Scope& scope);
/// Its truth, as if and and have it.
Outcome<bool> truth_of(Runtime& runtime, const Expr& expr, const Scope& scope);
/// `value` through a chain of filters without a left side, as blocks have them.
Outcome<Value> filtered(Runtime& runtime, const Expr& filters, Value value, const Scope& scope);
/// The arguments of a call, filter or test, evaluated.
Outcome<Arguments> arguments_of(Runtime& runtime, const Expr& expr, const Scope& scope);

Outcome<Value> call(Runtime& runtime, const Value& callee, Arguments arguments);

}  // namespace gem8::jinja
