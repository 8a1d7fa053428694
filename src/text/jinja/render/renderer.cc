#include "text/jinja/render/renderer.h"

#include "text/jinja/depth.h"
#include "text/jinja/python/access.h"
#include "text/jinja/render/evaluate.h"
#include "text/jinja/render/globals.h"
#include "text/jinja/render/loop.h"
#include "text/jinja/render/macro.h"
#include "text/jinja/value/repr.h"

namespace gem8::jinja {

Renderer::Renderer(const Value& context, const RenderOptions& options) : runtime_(options) {
  const ScopePtr globals = global_scope();
  if (const Dict* names = context.mapping()) {
    for (const auto& [name, value] : names->members()) {
      if (name.is_string()) globals->names.insert_or_assign(name.text(), value);
    }
  }
  top_ = inner(globals);
}

Renderer::~Renderer() {
  // Macros hold the scopes that hold them: cut every tie while all are still held.
  for (const ScopePtr& scope : captured_) scope->names.clear();
  for (const auto& loop : recursive_loops_) loop->release();
}

Outcome<std::string> Renderer::run(const Block& body) {
  std::string out;
  auto flow = execute(body, top_, out);
  if (!flow) {
    if (flow.error().line == 0) flow.error().line = runtime_.line;
    return std::unexpected(std::move(flow.error()));
  }
  return out;
}

Outcome<Flow> Renderer::execute(const Block& block, const ScopePtr& scope, std::string& out) {
  const Deeper deeper(runtime_.depth);
  for (const Statement& statement : block) {
    GEM8_RETURN_IF_ERROR(runtime_.enter(statement.line));
    GEM8_TRY(const Flow flow, execute(statement, scope, out));
    if (flow != Flow::kOn) return flow;
  }
  return Flow::kOn;
}

Outcome<Flow> Renderer::execute(const Statement& s, const ScopePtr& scope, std::string& out) {
  switch (s.kind) {
    case StatementKind::kText:
      GEM8_RETURN_IF_ERROR(runtime_.append(out, s.text));
      return Flow::kOn;
    case StatementKind::kPrint: {
      GEM8_TRY(const Value value, evaluate(runtime_, *s.expr, *scope));
      GEM8_RETURN_IF_ERROR(print(value, out));
      return Flow::kOn;
    }
    case StatementKind::kIf: {
      GEM8_TRY(const bool truth, truth_of(runtime_, *s.condition, *scope));
      return execute(truth ? s.body : s.otherwise, scope, out);
    }
    case StatementKind::kFor: {
      GEM8_TRY(const Value sequence, evaluate(runtime_, *s.expr, *scope));
      return loop_over(s, sequence, scope, 0, out);
    }
    case StatementKind::kSet: {
      GEM8_TRY(const Value value, evaluate(runtime_, *s.expr, *scope));
      GEM8_RETURN_IF_ERROR(assign(*s.target, value, *scope));
      return Flow::kOn;
    }
    case StatementKind::kSetBlock:
    case StatementKind::kFilterBlock:
      return captured(s, scope, out);
    case StatementKind::kMacro:
      scope->names.insert_or_assign(s.text, macro(s, s.text, scope));
      return Flow::kOn;
    case StatementKind::kCallBlock:
      GEM8_RETURN_IF_ERROR(call_block(s, scope, out));
      return Flow::kOn;
    case StatementKind::kWith:
      return with(s, scope, out);
    case StatementKind::kGeneration:
      return execute(s.body, inner(scope), out);
    case StatementKind::kBreak:
      return Flow::kBreak;
    case StatementKind::kContinue:
      return Flow::kContinue;
  }
  return Flow::kOn;
}

Outcome<void> Renderer::print(const Value& value, std::string& out) {
  if (value.is_string()) return runtime_.append(out, value.text());
  GEM8_RETURN_IF_ERROR(runtime_.charge(value.weight()));
  GEM8_TRY(const std::string text, to_str(value));
  return runtime_.append(out, text);
}

Outcome<Flow> Renderer::captured(const Statement& s, const ScopePtr& scope, std::string& out) {
  std::string text;
  GEM8_TRY(const Flow flow, execute(s.body, inner(scope), text));
  Value value(std::move(text));
  if (s.expr) {
    GEM8_TRY(value, filtered(runtime_, *s.expr, std::move(value), *scope));
  }
  GEM8_RETURN_IF_ERROR(s.kind == StatementKind::kSetBlock ? assign(*s.target, value, *scope)
                                                          : print(value, out));
  return flow;
}

Outcome<void> Renderer::call_block(const Statement& s, const ScopePtr& scope, std::string& out) {
  Value caller = macro(s, "caller", scope);
  GEM8_TRY(const Value callee, evaluate(runtime_, *s.expr->a, *scope));
  GEM8_TRY(Arguments arguments, arguments_of(runtime_, *s.expr, *scope));
  arguments.named.emplace_back("caller", std::move(caller));
  GEM8_TRY(const Value value, call(runtime_, callee, std::move(arguments)));
  return print(value, out);
}

Outcome<Flow> Renderer::with(const Statement& s, const ScopePtr& scope, std::string& out) {
  const ScopePtr body_scope = inner(scope);
  for (std::size_t i = 0; i < s.targets.size(); ++i) {
    GEM8_TRY(const Value value, evaluate(runtime_, *s.values[i], *scope));
    GEM8_RETURN_IF_ERROR(assign(*s.targets[i], value, *body_scope));
  }
  return execute(s.body, body_scope, out);
}

Value Renderer::macro(const Statement& s, std::string name, const ScopePtr& scope) {
  captured_.push_back(scope);
  return Value::object(std::make_shared<Macro>(*this, s, std::move(name), scope));
}

Outcome<List> Renderer::chosen_items(const Statement& s, const Value& sequence,
                                     const ScopePtr& scope) {
  GEM8_TRY(List items, iterate(runtime_, sequence));
  if (!s.condition) return items;
  List kept;
  for (Value& item : items) {
    const ScopePtr test_scope = inner(scope);
    GEM8_RETURN_IF_ERROR(assign(*s.target, item, *test_scope));
    GEM8_TRY(const bool keep, truth_of(runtime_, *s.condition, *test_scope));
    if (keep) kept.push_back(std::move(item));
  }
  return kept;
}

Outcome<Flow> Renderer::loop_over(const Statement& s, const Value& sequence, const ScopePtr& scope,
                                  int level, std::string& out) {
  GEM8_TRY(List items, chosen_items(s, sequence, scope));
  if (items.empty())
    return s.otherwise.empty() ? Outcome<Flow>(Flow::kOn) : execute(s.otherwise, inner(scope), out);
  const auto loop = std::make_shared<Loop>(std::move(items), level);
  if (s.recursive) {
    loop->make_recursive(*this, s, scope);
    recursive_loops_.push_back(loop);
  }
  for (; !loop->at_end(); loop->advance()) {
    GEM8_RETURN_IF_ERROR(runtime_.charge(1));
    const ScopePtr body_scope = inner(scope);
    body_scope->names.emplace("loop", Value::object(loop));
    GEM8_RETURN_IF_ERROR(assign(*s.target, loop->item(), *body_scope));
    GEM8_TRY(const Flow flow, execute(s.body, body_scope, out));
    if (flow == Flow::kBreak) break;
  }
  return Flow::kOn;
}

Outcome<void> Renderer::assign(const Expr& target, const Value& value, Scope& scope) {
  if (target.kind == ExprKind::kName) {
    scope.names.insert_or_assign(target.text, value);
    return {};
  }
  if (target.kind == ExprKind::kAttribute) {
    GEM8_TRY(const Value holder, evaluate(runtime_, *target.a, scope));
    const auto* names = holder.get<Value::Namespace>();
    if (names == nullptr)
      return failure(ErrorClass::kRuntime, "cannot assign attribute on non-namespace object");
    names->members->set(target.text, value);
    return {};
  }
  GEM8_TRY(const List values, iterate(runtime_, value));
  if (values.size() != target.items.size()) {
    return failure(ErrorClass::kValue, "{} values to unpack (expected {}, got {})",
                   values.size() < target.items.size() ? "not enough" : "too many",
                   target.items.size(), values.size());
  }
  for (std::size_t i = 0; i < values.size(); ++i)
    GEM8_RETURN_IF_ERROR(assign(*target.items[i], values[i], scope));
  return {};
}

}  // namespace gem8::jinja
