// Literals, names, subscripts, calls, filters and tests.
#include <algorithm>
#include <charconv>

#include "text/jinja/depth.h"
#include "text/jinja/filters/filters.h"
#include "text/jinja/filters/tests.h"
#include "text/jinja/syntax/expression_parser.h"

namespace gem8::jinja {

Outcome<ExprPtr> ExpressionParser::primary() {
  const Deeper deeper(depth_);
  if (depth_ > kMaxNesting)
    return failure(ErrorClass::kLimit, "expressions nested more than {} deep", kMaxNesting);
  const int line = now().line;
  switch (now().kind) {
    case TokenKind::kName: {
      const std::string name = take().text;
      if (name == "true" || name == "True") return constant(true, line);
      if (name == "false" || name == "False") return constant(false, line);
      if (name == "none" || name == "None") return constant(Value::None{}, line);
      ExprPtr made = make(ExprKind::kName, line);
      made->text = name;
      return made;
    }
    case TokenKind::kString: {
      std::string text = take().text;
      while (now().kind == TokenKind::kString) text += take().text;
      return constant(std::move(text), line);
    }
    case TokenKind::kInteger:
      return integer(take());
    case TokenKind::kFloat:
      return real(take());
    default:
      break;
  }
  if (skip_operator("(")) {
    GEM8_TRY(ExprPtr made, tuple(true, {}, true));
    GEM8_RETURN_IF_ERROR(expect_operator(")"));
    return made;
  }
  if (skip_operator("[")) return list(line);
  if (skip_operator("{")) return dict(line);
  return wrong("expected an expression, got {}", describe(now()));
}

Outcome<ExprPtr> ExpressionParser::constant(Value value, int line) const {
  ExprPtr made = make(ExprKind::kConstant, line);
  made->value = std::move(value);
  return made;
}

Outcome<ExprPtr> ExpressionParser::integer(const Token& token) const {
  std::string_view digits = token.text;
  int base = 10;
  if (digits.size() > 2 && digits[0] == '0') {
    const char kind = static_cast<char>(digits[1] | 0x20);
    base = kind == 'x' ? 16 : kind == 'o' ? 8 : kind == 'b' ? 2 : 10;
    if (base != 10) digits.remove_prefix(2);
  }
  Integer value = 0;
  for (const char c : digits) {
    const int digit = c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10;
    if (__builtin_mul_overflow(value, static_cast<Integer>(base), &value) ||
        __builtin_add_overflow(value, static_cast<Integer>(digit), &value)) {
      return failure(ErrorClass::kLimit, "the number {} is too large", token.text.substr(0, 60));
    }
  }
  return constant(value, token.line);
}

Outcome<ExprPtr> ExpressionParser::real(const Token& token) const {
  double value = 0;
  const auto [end, error] =
      std::from_chars(token.text.data(), token.text.data() + token.text.size(), value);
  if (error != std::errc()) return wrong("the number {} is out of range", token.text);
  return constant(value, token.line);
}

Outcome<ExprPtr> ExpressionParser::list(int line) {
  ExprPtr made = make(ExprKind::kList, line);
  while (!is_operator("]")) {
    if (!made->items.empty()) GEM8_RETURN_IF_ERROR(expect_operator(","));
    if (is_operator("]")) break;
    GEM8_TRY(ExprPtr item, expression());
    made->items.push_back(std::move(item));
  }
  take();
  return made;
}

Outcome<ExprPtr> ExpressionParser::dict(int line) {
  ExprPtr made = make(ExprKind::kDict, line);
  while (!is_operator("}")) {
    if (!made->items.empty()) GEM8_RETURN_IF_ERROR(expect_operator(","));
    if (is_operator("}")) break;
    GEM8_TRY(ExprPtr key, expression());
    GEM8_RETURN_IF_ERROR(expect_operator(":"));
    GEM8_TRY(ExprPtr value, expression());
    made->items.push_back(std::move(key));
    made->items.push_back(std::move(value));
  }
  take();
  return made;
}

Outcome<ExprPtr> ExpressionParser::postfix(ExprPtr left) {
  for (int n = 0;; ++n) {
    if (n > kMaxChain)
      return failure(ErrorClass::kLimit, "more than {} subscripts in a row", kMaxChain);
    if (is_operator(".") || is_operator("[")) {
      GEM8_TRY(left, subscript(std::move(left)));
    } else if (is_operator("(")) {
      GEM8_TRY(left, call(std::move(left)));
    } else {
      return left;
    }
  }
}

Outcome<ExprPtr> ExpressionParser::filters_and_tests(ExprPtr left) {
  for (int n = 0;; ++n) {
    if (n > kMaxChain)
      return failure(ErrorClass::kLimit, "more than {} filters in a row", kMaxChain);
    if (is_operator("|")) {
      take();
      GEM8_TRY(left, one_filter(std::move(left)));
    } else if (is_name("is")) {
      GEM8_TRY(left, test(std::move(left)));
    } else if (is_operator("(")) {
      GEM8_TRY(left, call(std::move(left)));
    } else {
      return left;
    }
  }
}

Outcome<ExprPtr> ExpressionParser::subscript(ExprPtr left) {
  const int line = now().line;
  if (skip_operator(".")) {
    if (now().kind == TokenKind::kName) {
      ExprPtr made = make(ExprKind::kAttribute, line);
      made->a = std::move(left);
      made->text = take().text;
      return made;
    }
    if (now().kind != TokenKind::kInteger)
      return wrong("expected name or number, got {}", describe(now()));
    ExprPtr made = make(ExprKind::kSubscript, line);
    made->a = std::move(left);
    GEM8_TRY(made->b, integer(take()));
    return made;
  }
  take();
  ExprPtr made = make(ExprKind::kSubscript, line);
  made->a = std::move(left);
  if (!is_operator(":")) {
    GEM8_TRY(made->b, expression());
  }
  if (skip_operator(":")) {
    made->kind = ExprKind::kSlice;
    if (!is_operator(":") && !is_operator("]")) {
      GEM8_TRY(made->c, expression());
    }
    if (skip_operator(":") && !is_operator("]")) {
      GEM8_TRY(made->d, expression());
    }
  } else if (is_operator(",")) {
    return wrong("a subscript of several parts is not implemented");
  }
  GEM8_RETURN_IF_ERROR(expect_operator("]"));
  return made;
}

Outcome<ExprPtr> ExpressionParser::call(ExprPtr left) {
  ExprPtr made = make(ExprKind::kCall, now().line);
  made->a = std::move(left);
  GEM8_RETURN_IF_ERROR(arguments(*made));
  return made;
}

Outcome<void> ExpressionParser::arguments(Expr& made) {
  GEM8_RETURN_IF_ERROR(expect_operator("("));
  bool first = true;
  while (!is_operator(")")) {
    if (!std::exchange(first, false)) {
      GEM8_RETURN_IF_ERROR(expect_operator(","));
      if (is_operator(")")) break;
    }
    if (is_operator("*") || is_operator("**"))
      return wrong("argument unpacking with {} is not implemented", describe(now()));
    if (now().kind == TokenKind::kName && ahead().kind == TokenKind::kOperator &&
        ahead().text == "=") {
      std::string name = take().text;
      take();
      GEM8_TRY(ExprPtr value, expression());
      made.named.emplace_back(std::move(name), std::move(value));
      continue;
    }
    if (!made.named.empty()) return wrong("positional argument follows keyword argument");
    GEM8_TRY(ExprPtr value, expression());
    made.items.push_back(std::move(value));
  }
  return expect_operator(")");
}

Outcome<ExprPtr> ExpressionParser::one_filter(ExprPtr left) {
  ExprPtr made = make(ExprKind::kFilter, now().line);
  GEM8_TRY(made->text, any_name());
  if (is_operator(".")) return wrong("expected a filter's name without '.'");
  if (!is_filter(made->text)) {
    return std::unexpected(TemplateError{
        ErrorClass::kUnknownName, fmt::format("no filter named '{}'", made->text), made->line});
  }
  made->a = std::move(left);
  if (is_operator("(")) GEM8_RETURN_IF_ERROR(arguments(*made));
  return made;
}

Outcome<ExprPtr> ExpressionParser::filter_chain() {
  ExprPtr chain;
  for (int n = 0; n == 0 || skip_operator("|"); ++n) {
    if (n > kMaxChain)
      return failure(ErrorClass::kLimit, "more than {} filters in a row", kMaxChain);
    GEM8_TRY(chain, one_filter(std::move(chain)));
  }
  return chain;
}

Outcome<ExprPtr> ExpressionParser::test(ExprPtr left) {
  const int line = take().line;  // "is"
  const bool negated = skip_name("not");
  ExprPtr made = make(ExprKind::kTest, line);
  GEM8_TRY(made->text, any_name());
  if (!is_test(made->text)) {
    return std::unexpected(TemplateError{ErrorClass::kUnknownName,
                                         fmt::format("no test named '{}'", made->text), line});
  }
  made->a = std::move(left);
  const TokenKind kind = now().kind;
  if (is_operator("(")) {
    GEM8_RETURN_IF_ERROR(arguments(*made));
  } else if ((kind == TokenKind::kName && now().text != "else" && now().text != "or" &&
              now().text != "and") ||
             kind == TokenKind::kString || kind == TokenKind::kInteger ||
             kind == TokenKind::kFloat || is_operator("[") || is_operator("{")) {
    if (is_name("is")) return wrong("tests cannot be chained with 'is'");
    GEM8_TRY(ExprPtr argument, primary());
    GEM8_TRY(argument, postfix(std::move(argument)));
    made->items.push_back(std::move(argument));
  }
  if (!negated) return made;
  ExprPtr inverted = make(ExprKind::kNot, line);
  inverted->a = std::move(made);
  return inverted;
}

}  // namespace gem8::jinja
