#include "text/jinja/syntax/expression_parser.h"

#include <algorithm>

#include "text/jinja/depth.h"

namespace gem8::jinja {
namespace {

/// Chains such as a + b + c grow a tree to the left, as deep as they are long: bounded, for
/// evaluation recurses.
Outcome<void> grows(Expr& made) {
  int depth = 0;
  for (const Expr* at = made.a.get(); at != nullptr && at->kind == made.kind && depth <= kMaxChain;
       at = at->a.get())
    ++depth;
  if (depth > kMaxChain)
    return failure(ErrorClass::kLimit, "more than {} operators in a row", kMaxChain);
  return {};
}

bool assignable(const Expr& expr) {
  if (expr.kind == ExprKind::kName) return true;
  return (expr.kind == ExprKind::kTuple || expr.kind == ExprKind::kList) &&
         std::ranges::all_of(expr.items, [](const ExprPtr& item) { return assignable(*item); });
}

}  // namespace

ExprPtr ExpressionParser::make(ExprKind kind, int line) {
  auto expr = std::make_unique<Expr>();
  expr->kind = kind;
  expr->line = line;
  return expr;
}

template <class ParseItem>
Outcome<ExprPtr> ExpressionParser::tuple_of(const ParseItem& parse_item, EndWords end_words,
                                            bool in_parentheses) {
  const int line = now().line;
  std::vector<ExprPtr> items;
  bool is_tuple = false;
  for (;;) {
    if (!items.empty()) GEM8_RETURN_IF_ERROR(expect_operator(","));
    if (at_tuple_end(end_words)) break;
    GEM8_TRY(ExprPtr item, parse_item());
    items.push_back(std::move(item));
    if (!is_operator(",")) break;
    is_tuple = true;
  }
  if (!is_tuple && !items.empty()) return std::move(items.front());
  if (!is_tuple && !in_parentheses) return wrong("expected an expression, got {}", describe(now()));
  ExprPtr made = make(ExprKind::kTuple, line);
  made->items = std::move(items);
  return made;
}

bool ExpressionParser::at_tuple_end(EndWords end_words) const {
  if (now().kind == TokenKind::kVariableEnd || now().kind == TokenKind::kBlockEnd ||
      is_operator(")"))
    return true;
  return now().kind == TokenKind::kName &&
         std::ranges::find(end_words, now().text) != end_words.end();
}

Outcome<ExprPtr> ExpressionParser::tuple(bool with_condition, EndWords end_words,
                                         bool in_parentheses) {
  return tuple_of([this, with_condition] { return expression(with_condition); }, end_words,
                  in_parentheses);
}

Outcome<ExprPtr> ExpressionParser::assign_target(EndWords end_words) {
  GEM8_TRY(ExprPtr target, tuple_of([this] { return primary(); }, end_words, false));
  if (!assignable(*target)) return wrong("cannot assign to this");
  return target;
}

Outcome<ExprPtr> ExpressionParser::expression(bool with_condition) {
  const Deeper deeper(depth_);
  if (depth_ > kMaxNesting)
    return failure(ErrorClass::kLimit, "expressions nested more than {} deep", kMaxNesting);
  if (!with_condition) return parse_or();
  GEM8_TRY(ExprPtr left, parse_or());
  while (is_name("if")) {
    ExprPtr made = make(ExprKind::kCondition, take().line);
    made->a = std::move(left);
    GEM8_TRY(made->b, parse_or());
    if (skip_name("else")) {
      GEM8_TRY(made->c, expression());
    }
    left = std::move(made);
  }
  return left;
}

template <class ParseOperand>
Outcome<ExprPtr> ExpressionParser::logical(std::string_view word, ExprKind kind,
                                           const ParseOperand& operand) {
  GEM8_TRY(ExprPtr left, operand());
  while (is_name(word)) {
    ExprPtr made = make(kind, take().line);
    made->a = std::move(left);
    GEM8_TRY(made->b, operand());
    GEM8_RETURN_IF_ERROR(grows(*made));
    left = std::move(made);
  }
  return left;
}

Outcome<ExprPtr> ExpressionParser::parse_or() {
  return logical("or", ExprKind::kOr, [this] { return parse_and(); });
}

Outcome<ExprPtr> ExpressionParser::parse_and() {
  return logical("and", ExprKind::kAnd, [this] { return parse_not(); });
}

Outcome<ExprPtr> ExpressionParser::parse_not() {
  const Deeper deeper(depth_);
  if (depth_ > kMaxNesting)
    return failure(ErrorClass::kLimit, "expressions nested more than {} deep", kMaxNesting);
  if (is_name("not")) {
    ExprPtr made = make(ExprKind::kNot, take().line);
    GEM8_TRY(made->a, parse_not());
    return made;
  }
  return comparison();
}

Outcome<ExprPtr> ExpressionParser::comparison() {
  GEM8_TRY(ExprPtr left, sum());
  ExprPtr made;
  for (;;) {
    std::string op;
    if (now().kind == TokenKind::kOperator &&
        (now().text == "==" || now().text == "!=" || now().text == "<" || now().text == "<=" ||
         now().text == ">" || now().text == ">=")) {
      op = take().text;
    } else if (is_name("in")) {
      op = take().text;
    } else if (is_name("not") && ahead().kind == TokenKind::kName && ahead().text == "in") {
      take();
      take();
      op = "not in";
    } else {
      break;
    }
    if (!made) {
      made = make(ExprKind::kCompare, now().line);
      made->a = std::move(left);
    }
    made->operators.push_back(std::move(op));
    GEM8_TRY(ExprPtr right, sum());
    made->items.push_back(std::move(right));
  }
  return made ? std::move(made) : std::move(left);
}

template <class ParseOperand>
Outcome<ExprPtr> ExpressionParser::binary(std::initializer_list<std::string_view> operators,
                                          const ParseOperand& operand) {
  GEM8_TRY(ExprPtr left, operand());
  while (now().kind == TokenKind::kOperator &&
         std::ranges::find(operators, now().text) != operators.end()) {
    ExprPtr made = make(ExprKind::kBinary, now().line);
    made->text = take().text;
    made->a = std::move(left);
    GEM8_TRY(made->b, operand());
    GEM8_RETURN_IF_ERROR(grows(*made));
    left = std::move(made);
  }
  return left;
}

Outcome<ExprPtr> ExpressionParser::sum() {
  return binary({"+", "-"}, [this] { return concat(); });
}

Outcome<ExprPtr> ExpressionParser::concat() {
  GEM8_TRY(ExprPtr first, product());
  if (!is_operator("~")) return first;
  ExprPtr made = make(ExprKind::kConcat, now().line);
  made->items.push_back(std::move(first));
  while (skip_operator("~")) {
    GEM8_TRY(ExprPtr next, product());
    made->items.push_back(std::move(next));
  }
  return made;
}

Outcome<ExprPtr> ExpressionParser::product() {
  return binary({"*", "/", "//", "%"}, [this] { return power(); });
}

Outcome<ExprPtr> ExpressionParser::power() {
  return binary({"**"}, [this] { return unary(true); });
}

Outcome<ExprPtr> ExpressionParser::unary(bool with_filter) {
  const Deeper deeper(depth_);
  if (depth_ > kMaxNesting)
    return failure(ErrorClass::kLimit, "expressions nested more than {} deep", kMaxNesting);
  ExprPtr made;
  if (is_operator("-") || is_operator("+")) {
    made = make(is_operator("-") ? ExprKind::kNegate : ExprKind::kPlus, now().line);
    take();
    GEM8_TRY(made->a, unary(false));
  } else {
    GEM8_TRY(made, primary());
  }
  GEM8_TRY(made, postfix(std::move(made)));
  if (!with_filter) return made;
  return filters_and_tests(std::move(made));
}

}  // namespace gem8::jinja
