#include "text/jinja/template.h"

#include <algorithm>
#include <unordered_map>

#include "text/jinja/filters.h"
#include "text/jinja/parser.h"

namespace gem8::jinja {
namespace {

/// Names of one block scope. Inner scopes see outer ones; `set` writes the innermost.
struct Scope {
  std::shared_ptr<Scope> outer;
  std::unordered_map<std::string, Value> names;

  const Value* find(const std::string& name) const {
    for (const Scope* scope = this; scope != nullptr; scope = scope->outer.get()) {
      if (const auto place = scope->names.find(name); place != scope->names.end())
        return &place->second;
    }
    return nullptr;
  }
};
using ScopePtr = std::shared_ptr<Scope>;

struct Builtin : Object {
  std::string name;
  explicit Builtin(std::string_view text) : name(text) {}
  std::string_view type_name() const override { return "function"; }
};

/// A macro, or the body of a call block.
struct Macro : Object {
  const Statement* definition = nullptr;
  std::string name;
  ScopePtr scope;  ///< where it was defined
  bool uses_varargs = false, uses_kwargs = false, uses_caller = false;
  std::string_view type_name() const override { return "Macro"; }
};

struct Loop : Object {
  List items;
  std::size_t index = 0;
  int depth = 0;
  std::optional<List> last_changed;
  const Statement* definition = nullptr;  ///< of a recursive loop
  ScopePtr scope;
  std::string_view type_name() const override { return "LoopContext"; }
  bool callable() const override { return definition != nullptr; }
};

/// loop.cycle, loop.changed, cycler.next, cycler.reset.
struct BoundObject : Object {
  std::shared_ptr<Object> self;
  std::string name;
  std::string_view type_name() const override { return "method"; }
};
struct Cycler : Object {
  List items;
  std::size_t at = 0;
  std::string_view type_name() const override { return "Cycler"; }
  bool callable() const override { return false; }
};
struct Joiner : Object {
  Value separator;
  bool used = false;
  std::string_view type_name() const override { return "Joiner"; }
};

Value object(std::shared_ptr<Object> made) {
  return Value(Value::ObjectRef{std::move(made)});
}

constexpr std::string_view kBuiltins[] = {"range",        "dict",   "namespace", "raise_exception",
                                          "strftime_now", "cycler", "joiner",    "lipsum"};

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

class Renderer : public Runtime {
 public:
  Renderer(const Value& context, const RenderOptions& options)
      : options_(options), top_(std::make_shared<Scope>()) {
    globals_ = std::make_shared<Scope>();
    for (const std::string_view name : kBuiltins)
      globals_->names.emplace(name, object(std::make_shared<Builtin>(name)));
    if (const Dict* names = context.mapping()) {
      for (const auto& [name, value] : names->members()) {
        if (name.is_string()) globals_->names.insert_or_assign(name.text(), value);
      }
    }
    top_->outer = globals_;
  }
  ~Renderer() override {
    // Macros hold the scopes that hold them, namespaces may hold each other: cut every tie while
    // all are still held.
    for (const ScopePtr& scope : captured_) scope->names.clear();
    for (const auto& members : namespaces_) members->clear();
    for (const auto& loop : loops_) loop->scope.reset();
  }

  Outcome<std::string> run(const Block& body) {
    std::string out;
    auto flow = execute(body, top_, out);
    if (!flow) {
      if (flow.error().line == 0) flow.error().line = line_;
      return std::unexpected(std::move(flow.error()));
    }
    return out;
  }

  Outcome<void> charge(std::uint64_t n) override {
    steps_ += n;
    if (steps_ > options_.limits.max_steps)
      return failure(ErrorClass::kLimit, "the template takes more than {} steps",
                     options_.limits.max_steps);
    return {};
  }

  std::tm now() const override {
    if (options_.now) return options_.now();
    const std::time_t clock = std::time(nullptr);
    std::tm out{};
    localtime_r(&clock, &out);
    return out;
  }

  Outcome<Value> call(const Value& callee, Arguments arguments) override {
    GEM8_RETURN_IF_ERROR(need_defined(callee));
    GEM8_RETURN_IF_ERROR(charge(1));
    const auto* ref = callee.get<Value::ObjectRef>();
    if (ref == nullptr)
      return failure(ErrorClass::kType, "'{}' object is not callable", callee.type_name());
    Object* target = ref->object.get();
    if (const auto* method = dynamic_cast<const Method*>(target))
      return call_method(*this, *method, std::move(arguments));
    if (const auto* macro = dynamic_cast<const Macro*>(target))
      return call_macro(*macro, std::move(arguments));
    if (const auto* builtin = dynamic_cast<const Builtin*>(target))
      return call_builtin(builtin->name, std::move(arguments));
    if (const auto* bound = dynamic_cast<const BoundObject*>(target))
      return call_bound(*bound, std::move(arguments));
    if (auto* joiner = dynamic_cast<Joiner*>(target))
      return std::exchange(joiner->used, true) ? joiner->separator : Value("");
    if (const auto* loop = dynamic_cast<const Loop*>(target); loop && loop->definition)
      return call_loop(*loop, std::move(arguments));
    return failure(ErrorClass::kType, "'{}' object is not callable", callee.type_name());
  }

 private:
  enum class Flow { kOn, kBreak, kContinue };

  struct Deeper {
    explicit Deeper(int& depth) : depth_(depth) { ++depth_; }
    ~Deeper() { --depth_; }
    int& depth_;
  };

  Outcome<void> enter(int line) {
    line_ = line;
    if (depth_ > options_.limits.max_depth)
      return failure(ErrorClass::kLimit, "evaluation nested more than {} deep",
                     options_.limits.max_depth);
    return charge(1);
  }

  static ScopePtr inner(const ScopePtr& outer) {
    auto scope = std::make_shared<Scope>();
    scope->outer = outer;
    return scope;
  }

  Outcome<void> print(std::string_view text, std::string& out) {
    GEM8_RETURN_IF_ERROR(charge(text.size() / 64));
    if (out.size() + text.size() > options_.limits.max_output_bytes) {
      return failure(ErrorClass::kLimit, "more than {} bytes of output",
                     options_.limits.max_output_bytes);
    }
    out += text;
    return {};
  }

  // --- statements ---

  Outcome<Flow> execute(const Block& block, const ScopePtr& scope, std::string& out) {
    const Deeper deeper(depth_);
    for (const Statement& statement : block) {
      GEM8_RETURN_IF_ERROR(enter(statement.line));
      GEM8_TRY(const Flow flow, execute(statement, scope, out));
      if (flow != Flow::kOn) return flow;
    }
    return Flow::kOn;
  }

  Outcome<Flow> execute(const Statement& s, const ScopePtr& scope, std::string& out) {
    switch (s.kind) {
      case StatementKind::kText: {
        GEM8_RETURN_IF_ERROR(print(s.text, out));
        return Flow::kOn;
      }
      case StatementKind::kPrint:
        return print_value(s, scope, out);
      case StatementKind::kIf: {
        GEM8_TRY(const bool truth, truth_of(*s.condition, scope));
        return execute(truth ? s.body : s.otherwise, scope, out);
      }
      case StatementKind::kFor:
        return execute_for(s, scope, out);
      case StatementKind::kSet: {
        GEM8_TRY(const Value value, evaluate(*s.expr, scope));
        GEM8_RETURN_IF_ERROR(assign(*s.target, value, scope));
        return Flow::kOn;
      }
      case StatementKind::kSetBlock:
      case StatementKind::kFilterBlock:
        return execute_captured(s, scope, out);
      case StatementKind::kMacro: {
        auto macro = make_macro(s, scope);
        macro->name = s.text;
        scope->names.insert_or_assign(s.text, object(std::move(macro)));
        return Flow::kOn;
      }
      case StatementKind::kCallBlock:
        return execute_call_block(s, scope, out);
      case StatementKind::kWith:
        return execute_with(s, scope, out);
      case StatementKind::kGeneration:
        return execute(s.body, inner(scope), out);
      case StatementKind::kBreak:
        return Flow::kBreak;
      case StatementKind::kContinue:
        return Flow::kContinue;
    }
    return Flow::kOn;
  }

  Outcome<Flow> print_value(const Statement& s, const ScopePtr& scope, std::string& out) {
    GEM8_TRY(const Value value, evaluate(*s.expr, scope));
    if (value.is_string()) {
      GEM8_RETURN_IF_ERROR(print(value.text(), out));
      return Flow::kOn;
    }
    GEM8_RETURN_IF_ERROR(charge(value.weight()));
    GEM8_TRY(const std::string text, to_str(value));
    GEM8_RETURN_IF_ERROR(print(text, out));
    return Flow::kOn;
  }

  Outcome<Flow> execute_captured(const Statement& s, const ScopePtr& scope, std::string& out) {
    std::string text;
    GEM8_TRY(const Flow flow, execute(s.body, inner(scope), text));
    Value value(std::move(text));
    if (s.expr) {
      GEM8_TRY(value, evaluate_filters(*s.expr, std::move(value), scope));
    }
    if (s.kind == StatementKind::kSetBlock) {
      GEM8_RETURN_IF_ERROR(assign(*s.target, value, scope));
    } else {
      GEM8_TRY(const std::string filtered, to_str(value));
      GEM8_RETURN_IF_ERROR(print(filtered, out));
    }
    return flow;
  }

  Outcome<Flow> execute_with(const Statement& s, const ScopePtr& scope, std::string& out) {
    const ScopePtr body_scope = inner(scope);
    for (std::size_t i = 0; i < s.targets.size(); ++i) {
      GEM8_TRY(const Value value, evaluate(*s.values[i], scope));
      GEM8_RETURN_IF_ERROR(assign(*s.targets[i], value, body_scope));
    }
    return execute(s.body, body_scope, out);
  }

  std::shared_ptr<Macro> make_macro(const Statement& s, const ScopePtr& scope) {
    auto macro = std::make_shared<Macro>();
    macro->definition = &s;
    macro->scope = scope;
    macro->uses_varargs = mentions(s.body, "varargs");
    macro->uses_kwargs = mentions(s.body, "kwargs");
    macro->uses_caller = mentions(s.body, "caller");
    captured_.push_back(scope);
    return macro;
  }

  Outcome<Flow> execute_call_block(const Statement& s, const ScopePtr& scope, std::string& out) {
    auto caller = make_macro(s, scope);
    caller->name = "caller";
    GEM8_TRY(const Value callee, evaluate(*s.expr->a, scope));
    GEM8_TRY(Arguments arguments, arguments_of(*s.expr, scope));
    arguments.named.emplace_back("caller", object(std::move(caller)));
    GEM8_TRY(const Value value, call(callee, std::move(arguments)));
    GEM8_TRY(const std::string text, to_str(value));
    GEM8_RETURN_IF_ERROR(print(text, out));
    return Flow::kOn;
  }

  Outcome<Flow> execute_for(const Statement& s, const ScopePtr& scope, std::string& out) {
    GEM8_TRY(const Value sequence, evaluate(*s.expr, scope));
    return loop_over(s, sequence, scope, 0, out);
  }

  Outcome<Flow> loop_over(const Statement& s, const Value& sequence, const ScopePtr& scope,
                          int level, std::string& out) {
    GEM8_TRY(List items, iterate(*this, sequence));
    if (s.condition) {
      List kept;
      for (Value& item : items) {
        const ScopePtr test_scope = inner(scope);
        GEM8_RETURN_IF_ERROR(assign(*s.target, item, test_scope));
        GEM8_TRY(const bool keep, truth_of(*s.condition, test_scope));
        if (keep) kept.push_back(std::move(item));
      }
      items = std::move(kept);
    }
    if (items.empty())
      return s.otherwise.empty() ? Outcome<Flow>(Flow::kOn)
                                 : execute(s.otherwise, inner(scope), out);
    auto loop = std::make_shared<Loop>();
    loop->items = std::move(items);
    loop->depth = level;
    if (s.recursive) {
      loop->definition = &s;
      loop->scope = scope;
      loops_.push_back(loop);
    }
    for (; loop->index < loop->items.size(); ++loop->index) {
      GEM8_RETURN_IF_ERROR(charge(1));
      const ScopePtr body_scope = inner(scope);
      body_scope->names.emplace("loop", object(loop));
      GEM8_RETURN_IF_ERROR(assign(*s.target, loop->items[loop->index], body_scope));
      GEM8_TRY(const Flow flow, execute(s.body, body_scope, out));
      if (flow == Flow::kBreak) break;
    }
    return Flow::kOn;
  }

  Outcome<void> assign(const Expr& target, const Value& value, const ScopePtr& scope) {
    if (target.kind == ExprKind::kName) {
      scope->names.insert_or_assign(target.text, value);
      return {};
    }
    if (target.kind == ExprKind::kAttribute) {
      GEM8_TRY(const Value holder, evaluate(*target.a, scope));
      const auto* names = holder.get<Value::Namespace>();
      if (names == nullptr)
        return failure(ErrorClass::kRuntime, "cannot assign attribute on non-namespace object");
      names->members->set(target.text, value);
      return {};
    }
    GEM8_TRY(const List values, iterate(*this, value));
    if (values.size() != target.items.size()) {
      return failure(ErrorClass::kValue, "{} values to unpack (expected {}, got {})",
                     values.size() < target.items.size() ? "not enough" : "too many",
                     target.items.size(), values.size());
    }
    for (std::size_t i = 0; i < values.size(); ++i)
      GEM8_RETURN_IF_ERROR(assign(*target.items[i], values[i], scope));
    return {};
  }

  // --- expressions ---

  Outcome<bool> truth_of(const Expr& e, const ScopePtr& scope) {
    GEM8_TRY(const Value value, evaluate(e, scope));
    return truth(value);
  }
  static Outcome<bool> truth(const Value& value) {
    if (const auto* undefined = value.get<Value::Undefined>(); undefined && undefined->forbidden)
      GEM8_RETURN_IF_ERROR(need_defined(value));
    return value.truthy();
  }

  Outcome<Value> evaluate(const Expr& e, const ScopePtr& scope) {
    const Deeper deeper(depth_);
    GEM8_RETURN_IF_ERROR(enter(e.line));
    switch (e.kind) {
      case ExprKind::kConstant:
        return e.value;
      case ExprKind::kName: {
        if (const Value* value = scope->find(e.text)) return *value;
        return Value::undefined(fmt::format("'{}' is undefined", e.text));
      }
      case ExprKind::kList:
      case ExprKind::kTuple:
      case ExprKind::kDict:
        return evaluate_container(e, scope);
      case ExprKind::kCondition:
        return evaluate_condition(e, scope);
      case ExprKind::kOr:
      case ExprKind::kAnd:
        return evaluate_logical(e, scope);
      case ExprKind::kNot: {
        GEM8_TRY(const bool truth, truth_of(*e.a, scope));
        return Value(!truth);
      }
      case ExprKind::kCompare:
        return evaluate_comparison(e, scope);
      case ExprKind::kBinary:
        return evaluate_binary(e, scope);
      case ExprKind::kConcat:
        return evaluate_concat(e, scope);
      case ExprKind::kNegate:
      case ExprKind::kPlus:
        return evaluate_sign(e, scope);
      case ExprKind::kAttribute:
        return evaluate_attribute(e, scope);
      case ExprKind::kSubscript:
        return evaluate_subscript(e, scope);
      case ExprKind::kSlice:
        return evaluate_slice(e, scope);
      case ExprKind::kCall:
        return evaluate_call(e, scope);
      case ExprKind::kFilter:
        return evaluate_filter(e, scope);
      case ExprKind::kTest:
        return evaluate_test(e, scope);
    }
    return Value();
  }

  Outcome<Value> evaluate_container(const Expr& e, const ScopePtr& scope) {
    List items;
    for (const ExprPtr& item : e.items) {
      GEM8_TRY(Value value, evaluate(*item, scope));
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

  Outcome<Value> evaluate_condition(const Expr& e, const ScopePtr& scope) {
    GEM8_TRY(const bool truth, truth_of(*e.b, scope));
    if (truth) return evaluate(*e.a, scope);
    if (e.c) return evaluate(*e.c, scope);
    return Value::undefined(
        "the inline if-expression evaluated to false and no else section was defined");
  }

  Outcome<Value> evaluate_logical(const Expr& e, const ScopePtr& scope) {
    GEM8_TRY(Value left, evaluate(*e.a, scope));
    GEM8_TRY(const bool left_truth, truth(left));
    if (left_truth == (e.kind == ExprKind::kOr)) return left;
    return evaluate(*e.b, scope);
  }

  Outcome<Value> evaluate_comparison(const Expr& e, const ScopePtr& scope) {
    GEM8_TRY(Value left, evaluate(*e.a, scope));
    for (std::size_t i = 0; i < e.items.size(); ++i) {
      GEM8_TRY(Value right, evaluate(*e.items[i], scope));
      GEM8_TRY(const bool holds, compare(*this, e.operators[i], left, right));
      if (!holds) return Value(false);
      left = std::move(right);
    }
    return Value(true);
  }

  Outcome<Value> evaluate_binary(const Expr& e, const ScopePtr& scope) {
    GEM8_TRY(const Value a, evaluate(*e.a, scope));
    GEM8_TRY(const Value b, evaluate(*e.b, scope));
    return binary_operation(*this, e.text, a, b);
  }

  Outcome<Value> evaluate_concat(const Expr& e, const ScopePtr& scope) {
    std::string out;
    for (const ExprPtr& item : e.items) {
      GEM8_TRY(const Value value, evaluate(*item, scope));
      GEM8_TRY(const std::string text, to_str(value));
      GEM8_RETURN_IF_ERROR(print(text, out));
    }
    return Value(std::move(out));
  }

  Outcome<Value> evaluate_sign(const Expr& e, const ScopePtr& scope) {
    GEM8_TRY(const Value value, evaluate(*e.a, scope));
    if (e.kind == ExprKind::kNegate) return negate(value);
    GEM8_RETURN_IF_ERROR(need_defined(value));
    if (!value.is_number())
      return failure(ErrorClass::kType, "bad operand type for unary +: '{}'", value.type_name());
    if (const auto x = value.integer()) return Value(*x);
    return value;
  }

  Outcome<Value> evaluate_attribute(const Expr& e, const ScopePtr& scope) {
    GEM8_TRY(const Value value, evaluate(*e.a, scope));
    if (const auto* ref = value.get<Value::ObjectRef>())
      return object_attribute(ref->object, e.text, value);
    return attribute(value, e.text);
  }

  Outcome<Value> evaluate_subscript(const Expr& e, const ScopePtr& scope) {
    GEM8_TRY(const Value value, evaluate(*e.a, scope));
    GEM8_TRY(const Value key, evaluate(*e.b, scope));
    if (const auto* ref = value.get<Value::ObjectRef>(); ref && key.is_string())
      return object_attribute(ref->object, key.text(), value);
    return subscript(*this, value, key);
  }

  Outcome<Value> evaluate_slice(const Expr& e, const ScopePtr& scope) {
    GEM8_TRY(const Value value, evaluate(*e.a, scope));
    Value bounds[3];
    const Value* given[3] = {};
    const Expr* parts[3] = {e.b.get(), e.c.get(), e.d.get()};
    for (int i = 0; i < 3; ++i) {
      if (parts[i] == nullptr) continue;
      GEM8_TRY(bounds[i], evaluate(*parts[i], scope));
      given[i] = &bounds[i];
    }
    return slice(*this, value, given[0], given[1], given[2]);
  }

  Outcome<Arguments> arguments_of(const Expr& e, const ScopePtr& scope) {
    Arguments arguments;
    for (const ExprPtr& item : e.items) {
      GEM8_TRY(Value value, evaluate(*item, scope));
      arguments.positional.push_back(std::move(value));
    }
    for (const auto& [name, item] : e.named) {
      GEM8_TRY(Value value, evaluate(*item, scope));
      arguments.named.emplace_back(name, std::move(value));
    }
    return arguments;
  }

  Outcome<Value> evaluate_call(const Expr& e, const ScopePtr& scope) {
    GEM8_TRY(const Value callee, evaluate(*e.a, scope));
    GEM8_RETURN_IF_ERROR(need_defined(callee));
    GEM8_TRY(Arguments arguments, arguments_of(e, scope));
    auto value = call(callee, std::move(arguments));
    if (!value && value.error().line == 0) value.error().line = e.line;
    return value;
  }

  Outcome<Value> evaluate_filter(const Expr& e, const ScopePtr& scope) {
    GEM8_TRY(Value value, evaluate(*e.a, scope));
    return apply_one_filter(e, std::move(value), scope);
  }
  Outcome<Value> apply_one_filter(const Expr& e, Value value, const ScopePtr& scope) {
    GEM8_TRY(Arguments arguments, arguments_of(e, scope));
    arguments.positional.insert(arguments.positional.begin(), std::move(value));
    return apply_filter(*this, e.text, std::move(arguments));
  }
  /// The chain of a filter block, whose innermost left side is `value`.
  Outcome<Value> evaluate_filters(const Expr& e, Value value, const ScopePtr& scope) {
    const Deeper deeper(depth_);
    GEM8_RETURN_IF_ERROR(enter(e.line));
    if (e.a) {
      GEM8_TRY(value, evaluate_filters(*e.a, std::move(value), scope));
    }
    return apply_one_filter(e, std::move(value), scope);
  }

  Outcome<Value> evaluate_test(const Expr& e, const ScopePtr& scope) {
    GEM8_TRY(Value value, evaluate(*e.a, scope));
    GEM8_TRY(Arguments arguments, arguments_of(e, scope));
    arguments.positional.insert(arguments.positional.begin(), std::move(value));
    GEM8_TRY(const bool holds, apply_test(*this, e.text, std::move(arguments)));
    return Value(holds);
  }

  // --- calls ---

  Outcome<Value> call_macro(const Macro& macro, Arguments arguments) {
    if (macro_depth_ >= options_.limits.max_macro_depth) {
      return failure(ErrorClass::kLimit, "macros nested more than {} deep",
                     options_.limits.max_macro_depth);
    }
    const Deeper deeper(macro_depth_);
    const Statement& s = *macro.definition;
    const ScopePtr scope = inner(macro.scope);
    List extra;
    Dict extra_named;
    for (std::size_t i = 0; i < arguments.positional.size(); ++i) {
      if (i < s.parameters.size()) {
        scope->names.insert_or_assign(s.parameters[i].name, std::move(arguments.positional[i]));
      } else if (macro.uses_varargs) {
        extra.push_back(std::move(arguments.positional[i]));
      } else {
        return failure(ErrorClass::kType, "macro '{}' takes not more than {} argument(s)",
                       macro.name, s.parameters.size());
      }
    }
    bool has_caller = false;
    for (auto& [name, value] : arguments.named) {
      const bool is_parameter = std::ranges::any_of(
          s.parameters, [&](const Parameter& parameter) { return parameter.name == name; });
      if (is_parameter) {
        if (scope->names.contains(name))
          return failure(ErrorClass::kType, "macro '{}' got multiple values for argument '{}'",
                         macro.name, name);
        scope->names.emplace(name, std::move(value));
      } else if (name == "caller" && macro.uses_caller) {
        scope->names.emplace(name, std::move(value));
        has_caller = true;
      } else if (macro.uses_kwargs) {
        extra_named.set(name, std::move(value));
      } else {
        return failure(ErrorClass::kType, "macro '{}' takes no keyword argument '{}'", macro.name,
                       name);
      }
    }
    for (const Parameter& parameter : s.parameters) {
      if (scope->names.contains(parameter.name)) continue;
      Value value =
          Value::undefined(fmt::format("parameter '{}' was not provided", parameter.name));
      if (parameter.fallback) {
        GEM8_TRY(value, evaluate(*parameter.fallback, scope));
      }
      scope->names.emplace(parameter.name, std::move(value));
    }
    if (macro.uses_varargs) scope->names.emplace("varargs", Value::tuple(std::move(extra)));
    if (macro.uses_kwargs) scope->names.emplace("kwargs", Value::dict(std::move(extra_named)));
    if (macro.uses_caller && !has_caller)
      scope->names.emplace("caller", Value::undefined("No caller defined"));
    std::string out;
    GEM8_TRY([[maybe_unused]] const Flow flow, execute(s.body, scope, out));
    return Value(std::move(out));
  }

  Outcome<Value> call_loop(const Loop& loop, Arguments arguments) {
    if (macro_depth_ >= options_.limits.max_macro_depth)
      return failure(ErrorClass::kLimit, "loops nested more than {} deep",
                     options_.limits.max_macro_depth);
    const Deeper deeper(macro_depth_);
    GEM8_TRY(const auto bound, bind_arguments("loop", std::move(arguments), {"iterable"}, 1));
    std::string out;
    const Statement& definition = *loop.definition;
    const ScopePtr scope = loop.scope;
    GEM8_TRY([[maybe_unused]] const Flow flow,
             loop_over(definition, *bound[0], scope, loop.depth + 1, out));
    return Value(std::move(out));
  }

  Outcome<Value> object_attribute(const std::shared_ptr<Object>& self, const std::string& name,
                                  const Value& value) {
    if (name.starts_with("__") && name.ends_with("__")) {
      return Value::undefined(
          fmt::format("access to attribute '{}' of '{}' object is unsafe", name, self->type_name()),
          true);
    }
    const auto bound = [&] {
      auto made = std::make_shared<BoundObject>();
      made->self = self;
      made->name = name;
      return object(std::move(made));
    };
    if (const auto* loop = dynamic_cast<const Loop*>(self.get())) {
      const std::size_t n = loop->items.size(), i = loop->index;
      if (name == "index") return Value(i + 1);
      if (name == "index0") return Value(i);
      if (name == "revindex") return Value(n - i);
      if (name == "revindex0") return Value(n - i - 1);
      if (name == "first") return Value(i == 0);
      if (name == "last") return Value(i + 1 == n);
      if (name == "length") return Value(n);
      if (name == "depth") return Value(loop->depth + 1);
      if (name == "depth0") return Value(loop->depth);
      if (name == "previtem")
        return i > 0 ? loop->items[i - 1] : Value::undefined("there is no previous item");
      if (name == "nextitem")
        return i + 1 < n ? loop->items[i + 1] : Value::undefined("there is no next item");
      if (name == "cycle" || name == "changed") return bound();
    } else if (const auto* cycler = dynamic_cast<const Cycler*>(self.get())) {
      if (name == "next" || name == "reset") return bound();
      if (name == "current") return cycler->items[cycler->at];
    } else if (const auto* macro = dynamic_cast<const Macro*>(self.get())) {
      if (name == "name") return Value(macro->name);
      if (name == "arguments") {
        List names;
        for (const Parameter& parameter : macro->definition->parameters)
          names.emplace_back(parameter.name);
        return Value::tuple(std::move(names));
      }
      if (name == "catch_kwargs") return Value(macro->uses_kwargs);
      if (name == "catch_varargs") return Value(macro->uses_varargs);
      if (name == "caller") return Value(macro->uses_caller);
    }
    return Value::undefined(
        fmt::format("'{} object' has no attribute '{}'", value.type_name(), name));
  }

  Outcome<Value> call_bound(const BoundObject& bound, Arguments arguments) {
    if (auto* loop = dynamic_cast<Loop*>(bound.self.get())) {
      if (bound.name == "cycle") {
        if (arguments.positional.empty())
          return failure(ErrorClass::kType, "no items for cycling given");
        return arguments.positional[loop->index % arguments.positional.size()];
      }
      if (loop->last_changed &&
          std::ranges::equal(*loop->last_changed, arguments.positional, equal))
        return Value(false);
      loop->last_changed = std::move(arguments.positional);
      return Value(true);
    }
    auto* cycler = dynamic_cast<Cycler*>(bound.self.get());
    if (cycler == nullptr) return failure(ErrorClass::kType, "not callable");
    if (bound.name == "reset") {
      cycler->at = 0;
      return Value(Value::None{});
    }
    const Value value = cycler->items[cycler->at];
    cycler->at = (cycler->at + 1) % cycler->items.size();
    return value;
  }

  Outcome<Value> call_builtin(const std::string& name, Arguments arguments) {
    if (name == "raise_exception") {
      GEM8_TRY(const auto bound, bind_arguments(name, std::move(arguments), {"message"}, 1));
      GEM8_TRY(std::string text, to_str(*bound[0]));
      return std::unexpected(TemplateError{ErrorClass::kRaised, std::move(text), line_});
    }
    if (name == "range") return make_range(std::move(arguments));
    if (name == "dict" || name == "namespace") return make_mapping(name, std::move(arguments));
    if (name == "strftime_now") return format_time(std::move(arguments));
    if (name == "cycler") {
      if (arguments.positional.empty())
        return failure(ErrorClass::kRuntime, "at least one item has to be provided");
      auto made = std::make_shared<Cycler>();
      made->items = std::move(arguments.positional);
      return object(std::move(made));
    }
    if (name == "joiner") {
      GEM8_TRY(const auto bound, bind_arguments(name, std::move(arguments), {"sep"}, 0));
      auto made = std::make_shared<Joiner>();
      made->separator = bound[0] ? *bound[0] : Value(", ");
      return object(std::move(made));
    }
    return failure(ErrorClass::kRuntime, "the function {}() is not implemented", name);
  }

  Outcome<Value> make_range(Arguments arguments) {
    constexpr std::int64_t kMaxRange = 100'000;  // the sandbox's own bound
    GEM8_TRY(const auto bound,
             bind_arguments("range", std::move(arguments), {"start", "stop", "step"}, 1));
    std::int64_t numbers[3] = {0, 0, 1};
    for (std::size_t i = 0; i < 3; ++i) {
      if (!bound[i]) continue;
      GEM8_TRY(numbers[i], need_integer(*bound[i], "range"));
      numbers[i] =
          std::clamp<std::int64_t>(numbers[i], -(std::int64_t{1} << 60), std::int64_t{1} << 60);
    }
    if (!bound[1]) {
      numbers[1] = numbers[0];
      numbers[0] = 0;
    }
    if (numbers[2] == 0) return failure(ErrorClass::kValue, "range() arg 3 must not be zero");
    const Value::Range range{numbers[0], numbers[1], numbers[2]};
    if (range.size() > kMaxRange)
      return failure(ErrorClass::kLimit, "range of {} items, at most {}", range.size(), kMaxRange);
    return Value(range);
  }

  Outcome<Value> make_mapping(const std::string& name, Arguments arguments) {
    Dict members;
    if (arguments.positional.size() > 1)
      return failure(ErrorClass::kType, "{}() takes at most 1 positional argument", name);
    for (const Value& source : arguments.positional) {
      if (const Dict* dict = source.mapping()) {
        members = *dict;
        continue;
      }
      GEM8_TRY(const List pairs, iterate(*this, source));
      for (const Value& pair : pairs) {
        GEM8_TRY(const List parts, iterate(*this, pair));
        if (parts.size() != 2)
          return failure(ErrorClass::kValue, "{}(): a pair of {} items", name, parts.size());
        members.set(parts[0], parts[1]);
      }
    }
    for (auto& [key, value] : arguments.named) members.set(key, std::move(value));
    if (name == "dict") return bounded(Value::dict(std::move(members)));
    constexpr std::size_t kMaxNamespaces = 100'000;
    if (namespaces_.size() >= kMaxNamespaces)
      return failure(ErrorClass::kLimit, "more than {} namespaces", kMaxNamespaces);
    namespaces_.push_back(std::make_shared<Dict>(std::move(members)));
    return Value(Value::Namespace{namespaces_.back()});
  }

  Outcome<Value> format_time(Arguments arguments) {
    GEM8_TRY(const auto bound, bind_arguments("strftime_now", std::move(arguments), {"format"}, 1));
    if (!bound[0]->is_string())
      return failure(ErrorClass::kType, "strftime_now() needs a text, not {}",
                     bound[0]->type_name());
    const std::string& format = bound[0]->text();
    if (format.empty()) return Value("");
    if (format.size() > 1000)
      return failure(ErrorClass::kLimit, "strftime_now: a format of {} bytes", format.size());
    const std::tm time = now();
    std::string out(format.size() * 64 + 64, '\0');
    out.resize(std::strftime(out.data(), out.size(), format.c_str(), &time));
    return Value(std::move(out));
  }

  const RenderOptions& options_;
  ScopePtr globals_, top_;
  std::vector<ScopePtr> captured_;
  std::vector<std::shared_ptr<Dict>> namespaces_;
  std::vector<std::shared_ptr<Loop>> loops_;
  std::uint64_t steps_ = 0;
  int depth_ = 0;
  int macro_depth_ = 0;
  int line_ = 0;
};

}  // namespace

struct Template::Tree {
  Block body;
};

Template::Template(std::unique_ptr<Tree> tree) : tree_(std::move(tree)) {}
Template::Template(Template&&) noexcept = default;
Template& Template::operator=(Template&&) noexcept = default;
Template::~Template() = default;

Outcome<Template> Template::parse(std::string_view source) {
  GEM8_TRY(Block body, parse_template(source));
  auto tree = std::make_unique<Tree>();
  tree->body = std::move(body);
  return Template(std::move(tree));
}

Outcome<std::string> Template::render(const Value& context, const RenderOptions& options) const {
  Renderer renderer(context, options);
  return renderer.run(tree_->body);
}

}  // namespace gem8::jinja
