#include "text/jinja/render/macro.h"

#include <algorithm>

#include "text/jinja/depth.h"
#include "text/jinja/render/evaluate.h"
#include "text/jinja/render/renderer.h"

namespace gem8::jinja {
namespace {

/// Whether a block mentions a name: a macro takes extra arguments only if its body asks for them.
bool mentions(const Block& block, std::string_view name);
bool mentions(const Expr* expr, std::string_view name) {
  if (expr == nullptr) return false;
  if (expr->kind == ExprKind::kName && expr->text == name) return true;
  for (const ExprPtr* part : {&expr->a, &expr->b, &expr->c, &expr->d}) {
    if (mentions(part->get(), name)) return true;
  }
  return std::ranges::any_of(expr->items,
                             [&](const ExprPtr& item) { return mentions(item.get(), name); }) ||
         std::ranges::any_of(expr->named,
                             [&](const auto& item) { return mentions(item.second.get(), name); });
}
bool mentions(const Block& block, std::string_view name) {
  return std::ranges::any_of(block, [&](const Statement& s) {
    return mentions(s.expr.get(), name) || mentions(s.condition.get(), name) ||
           mentions(s.target.get(), name) || mentions(s.body, name) ||
           mentions(s.otherwise, name) || std::ranges::any_of(s.values, [&](const ExprPtr& value) {
             return mentions(value.get(), name);
           });
  });
}

}  // namespace

Macro::Macro(Renderer& renderer, const Statement& definition, std::string name, ScopePtr scope)
    : renderer_(renderer),
      definition_(definition),
      name_(std::move(name)),
      scope_(std::move(scope)),
      uses_varargs_(mentions(definition.body, "varargs")),
      uses_kwargs_(mentions(definition.body, "kwargs")),
      uses_caller_(mentions(definition.body, "caller")) {}

bool Macro::is_parameter(std::string_view name) const {
  return std::ranges::find(definition_.parameters, name, &Parameter::name) !=
         definition_.parameters.end();
}

std::optional<Value> Macro::attribute(std::string_view name) {
  if (name == "name") return Value(name_);
  if (name == "arguments") {
    List names;
    for (const Parameter& parameter : definition_.parameters) names.emplace_back(parameter.name);
    return Value::tuple(std::move(names));
  }
  if (name == "catch_kwargs") return Value(uses_kwargs_);
  if (name == "catch_varargs") return Value(uses_varargs_);
  if (name == "caller") return Value(uses_caller_);
  return std::nullopt;
}

Outcome<void> Macro::bind(Runtime& runtime, Arguments arguments, Scope& scope) const {
  const std::vector<Parameter>& parameters = definition_.parameters;
  List extra;
  for (std::size_t i = 0; i < arguments.positional.size(); ++i) {
    if (i < parameters.size()) {
      scope.names.insert_or_assign(parameters[i].name, std::move(arguments.positional[i]));
    } else if (uses_varargs_) {
      extra.push_back(std::move(arguments.positional[i]));
    } else {
      return failure(ErrorClass::kType, "macro '{}' takes not more than {} argument(s)", name_,
                     parameters.size());
    }
  }
  Dict extra_named;
  for (auto& [name, value] : arguments.named) {
    if (is_parameter(name)) {
      if (!scope.names.emplace(name, std::move(value)).second)
        return failure(ErrorClass::kType, "macro '{}' got multiple values for argument '{}'", name_,
                       name);
    } else if (name == "caller" && uses_caller_) {
      scope.names.emplace(name, std::move(value));
    } else if (uses_kwargs_) {
      extra_named.set(name, std::move(value));
    } else {
      return failure(ErrorClass::kType, "macro '{}' takes no keyword argument '{}'", name_, name);
    }
  }
  for (const Parameter& parameter : parameters) {
    if (scope.names.contains(parameter.name)) continue;
    Value value = Value::undefined(fmt::format("parameter '{}' was not provided", parameter.name));
    if (parameter.fallback) {
      GEM8_TRY(value, evaluate(runtime, *parameter.fallback, scope));
    }
    scope.names.emplace(parameter.name, std::move(value));
  }
  if (uses_varargs_) scope.names.emplace("varargs", Value::tuple(std::move(extra)));
  if (uses_kwargs_) scope.names.emplace("kwargs", Value::dict(std::move(extra_named)));
  if (uses_caller_) scope.names.emplace("caller", Value::undefined("No caller defined"));
  return {};
}

Outcome<Value> Macro::call(Runtime& runtime, Arguments arguments) {
  GEM8_RETURN_IF_ERROR(runtime.enter_macro());
  const Deeper deeper(runtime.macro_depth);
  const ScopePtr scope = inner(scope_);
  GEM8_RETURN_IF_ERROR(bind(runtime, std::move(arguments), *scope));
  std::string out;
  GEM8_TRY([[maybe_unused]] const Flow flow, renderer_.execute(definition_.body, scope, out));
  return Value(std::move(out));
}

}  // namespace gem8::jinja
