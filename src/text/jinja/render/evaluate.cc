#include "text/jinja/render/evaluate.h"

#include "text/jinja/depth.h"
#include "text/jinja/filters/filters.h"
#include "text/jinja/filters/tests.h"
#include "text/jinja/python/access.h"
#include "text/jinja/python/need.h"
#include "text/jinja/python/operators.h"
#include "text/jinja/value/repr.h"

namespace gem8::jinja {
namespace {

Outcome<bool> truth(const Value& value) {
  GEM8_RETURN_IF_ERROR(need_allowed(value));
  return value.truthy();
}

Outcome<Value> evaluate_container(Runtime& runtime, const Expr& e, const Scope& scope) {
  List items;
  for (const ExprPtr& item : e.items) {
    GEM8_TRY(Value value, evaluate(runtime, *item, scope));
    items.push_back(std::move(value));
  }
  if (e.kind == ExprKind::kList) return bounded(Value::list(std::move(items)));
  if (e.kind == ExprKind::kTuple) return bounded(Value::tuple(std::move(items)));
  Dict members;
  for (std::size_t i = 0; i < items.size(); i += 2) {
    GEM8_RETURN_IF_ERROR(need_hashable(items[i]));
    members.set(items[i], std::move(items[i + 1]));
  }
  return bounded(Value::dict(std::move(members)));
}

Outcome<Value> evaluate_condition(Runtime& runtime, const Expr& e, const Scope& scope) {
  GEM8_TRY(const bool truth, truth_of(runtime, *e.b, scope));
  if (truth) return evaluate(runtime, *e.a, scope);
  if (e.c) return evaluate(runtime, *e.c, scope);
  return Value::undefined(
      "the inline if-expression evaluated to false and no else section was defined");
}

Outcome<Value> evaluate_logical(Runtime& runtime, const Expr& e, const Scope& scope) {
  GEM8_TRY(Value left, evaluate(runtime, *e.a, scope));
  GEM8_TRY(const bool left_truth, truth(left));
  if (left_truth == (e.kind == ExprKind::kOr)) return left;
  return evaluate(runtime, *e.b, scope);
}

Outcome<Value> evaluate_comparison(Runtime& runtime, const Expr& e, const Scope& scope) {
  GEM8_TRY(Value left, evaluate(runtime, *e.a, scope));
  for (std::size_t i = 0; i < e.items.size(); ++i) {
    GEM8_TRY(Value right, evaluate(runtime, *e.items[i], scope));
    GEM8_TRY(const bool holds, compare(runtime, e.operators[i], left, right));
    if (!holds) return Value(false);
    left = std::move(right);
  }
  return Value(true);
}

Outcome<Value> evaluate_binary(Runtime& runtime, const Expr& e, const Scope& scope) {
  GEM8_TRY(const Value a, evaluate(runtime, *e.a, scope));
  GEM8_TRY(const Value b, evaluate(runtime, *e.b, scope));
  return binary_operation(runtime, e.text, a, b);
}

Outcome<Value> evaluate_concat(Runtime& runtime, const Expr& e, const Scope& scope) {
  std::string out;
  for (const ExprPtr& item : e.items) {
    GEM8_TRY(const Value value, evaluate(runtime, *item, scope));
    GEM8_TRY(const std::string text, to_str(value));
    GEM8_RETURN_IF_ERROR(runtime.append(out, text));
  }
  return Value(std::move(out));
}

Outcome<Value> evaluate_sign(Runtime& runtime, const Expr& e, const Scope& scope) {
  GEM8_TRY(const Value value, evaluate(runtime, *e.a, scope));
  return e.kind == ExprKind::kNegate ? negate(value) : plus(value);
}

Outcome<Value> evaluate_attribute(Runtime& runtime, const Expr& e, const Scope& scope) {
  GEM8_TRY(const Value value, evaluate(runtime, *e.a, scope));
  return attribute(value, e.text);
}

Outcome<Value> evaluate_subscript(Runtime& runtime, const Expr& e, const Scope& scope) {
  GEM8_TRY(const Value value, evaluate(runtime, *e.a, scope));
  GEM8_TRY(const Value key, evaluate(runtime, *e.b, scope));
  return subscript(runtime, value, key);
}

Outcome<Value> evaluate_slice(Runtime& runtime, const Expr& e, const Scope& scope) {
  GEM8_TRY(const Value value, evaluate(runtime, *e.a, scope));
  Value bounds[3];
  const Value* given[3] = {};
  const Expr* parts[3] = {e.b.get(), e.c.get(), e.d.get()};
  for (int i = 0; i < 3; ++i) {
    if (parts[i] == nullptr) continue;
    GEM8_TRY(bounds[i], evaluate(runtime, *parts[i], scope));
    given[i] = &bounds[i];
  }
  return slice(runtime, value, given[0], given[1], given[2]);
}

Outcome<Value> evaluate_call(Runtime& runtime, const Expr& e, const Scope& scope) {
  GEM8_TRY(const Value callee, evaluate(runtime, *e.a, scope));
  GEM8_RETURN_IF_ERROR(need_defined(callee));
  GEM8_TRY(Arguments arguments, arguments_of(runtime, e, scope));
  auto value = call(runtime, callee, std::move(arguments));
  if (!value && value.error().line == 0) value.error().line = e.line;
  return value;
}

Outcome<Value> apply_one_filter(Runtime& runtime, const Expr& e, Value value, const Scope& scope) {
  GEM8_TRY(Arguments arguments, arguments_of(runtime, e, scope));
  arguments.positional.insert(arguments.positional.begin(), std::move(value));
  return apply_filter(runtime, e.text, std::move(arguments));
}

Outcome<Value> evaluate_filter(Runtime& runtime, const Expr& e, const Scope& scope) {
  GEM8_TRY(Value value, evaluate(runtime, *e.a, scope));
  return apply_one_filter(runtime, e, std::move(value), scope);
}

Outcome<Value> evaluate_test(Runtime& runtime, const Expr& e, const Scope& scope) {
  GEM8_TRY(Value value, evaluate(runtime, *e.a, scope));
  GEM8_TRY(Arguments arguments, arguments_of(runtime, e, scope));
  arguments.positional.insert(arguments.positional.begin(), std::move(value));
  GEM8_TRY(const bool holds, apply_test(runtime, e.text, std::move(arguments)));
  return Value(holds);
}

}  // namespace

Outcome<Value> evaluate(Runtime& runtime, const Expr& e, const Scope& scope) {
  const Deeper deeper(runtime.depth);
  GEM8_RETURN_IF_ERROR(runtime.enter(e.line));
  switch (e.kind) {
    case ExprKind::kConstant:
      return e.value;
    case ExprKind::kName: {
      if (const Value* value = scope.find(e.text)) return *value;
      return Value::undefined(fmt::format("'{}' is undefined", e.text));
    }
    case ExprKind::kList:
    case ExprKind::kTuple:
    case ExprKind::kDict:
      return evaluate_container(runtime, e, scope);
    case ExprKind::kCondition:
      return evaluate_condition(runtime, e, scope);
    case ExprKind::kOr:
    case ExprKind::kAnd:
      return evaluate_logical(runtime, e, scope);
    case ExprKind::kNot: {
      GEM8_TRY(const bool truth, truth_of(runtime, *e.a, scope));
      return Value(!truth);
    }
    case ExprKind::kCompare:
      return evaluate_comparison(runtime, e, scope);
    case ExprKind::kBinary:
      return evaluate_binary(runtime, e, scope);
    case ExprKind::kConcat:
      return evaluate_concat(runtime, e, scope);
    case ExprKind::kNegate:
    case ExprKind::kPlus:
      return evaluate_sign(runtime, e, scope);
    case ExprKind::kAttribute:
      return evaluate_attribute(runtime, e, scope);
    case ExprKind::kSubscript:
      return evaluate_subscript(runtime, e, scope);
    case ExprKind::kSlice:
      return evaluate_slice(runtime, e, scope);
    case ExprKind::kCall:
      return evaluate_call(runtime, e, scope);
    case ExprKind::kFilter:
      return evaluate_filter(runtime, e, scope);
    case ExprKind::kTest:
      return evaluate_test(runtime, e, scope);
  }
  return Value();
}

Outcome<bool> truth_of(Runtime& runtime, const Expr& e, const Scope& scope) {
  GEM8_TRY(const Value value, evaluate(runtime, e, scope));
  return truth(value);
}

Outcome<Value> filtered(Runtime& runtime, const Expr& e, Value value, const Scope& scope) {
  const Deeper deeper(runtime.depth);
  GEM8_RETURN_IF_ERROR(runtime.enter(e.line));
  if (e.a) {
    GEM8_TRY(value, filtered(runtime, *e.a, std::move(value), scope));
  }
  return apply_one_filter(runtime, e, std::move(value), scope);
}

Outcome<Arguments> arguments_of(Runtime& runtime, const Expr& e, const Scope& scope) {
  Arguments arguments;
  for (const ExprPtr& item : e.items) {
    GEM8_TRY(Value value, evaluate(runtime, *item, scope));
    arguments.positional.push_back(std::move(value));
  }
  for (const auto& [name, item] : e.named) {
    GEM8_TRY(Value value, evaluate(runtime, *item, scope));
    arguments.named.emplace_back(name, std::move(value));
  }
  return arguments;
}

Outcome<Value> call(Runtime& runtime, const Value& callee, Arguments arguments) {
  GEM8_RETURN_IF_ERROR(need_defined(callee));
  GEM8_RETURN_IF_ERROR(runtime.charge(1));
  const auto* ref = callee.get<Value::ObjectRef>();
  if (ref == nullptr || !ref->object->callable())
    return failure(ErrorClass::kType, "'{}' object is not callable", callee.type_name());
  const std::shared_ptr<Object> held = ref->object;
  return held->call(runtime, std::move(arguments));
}

}  // namespace gem8::jinja
