#pragma once

#include <initializer_list>
#include <string_view>

#include "text/jinja/syntax/ast.h"
#include "text/jinja/syntax/token_stream.h"

namespace gem8::jinja {

inline constexpr int kMaxNesting = 120;
/// Operators, filters or subscripts in a row.
inline constexpr int kMaxChain = 200;

/// Which words end an expression list besides the closing tokens.
using EndWords = std::initializer_list<std::string_view>;

/// Jinja2's expressions, by recursive descent: operators, loosest first, in expression_parser.cc;
/// what they apply to in operand_parser.cc.
class ExpressionParser : public TokenStream {
 public:
  using TokenStream::TokenStream;

  Outcome<ExprPtr> expression(bool with_condition = true);
  /// One expression, or several with commas: a tuple. None at all only in parentheses.
  Outcome<ExprPtr> tuple(bool with_condition, EndWords end_words, bool in_parentheses);
  /// A name, or names in a tuple, possibly nested.
  Outcome<ExprPtr> assign_target(EndWords end_words);
  /// "name | name(...)": the head of a filter block, or what follows "set x |".
  Outcome<ExprPtr> filter_chain();

 protected:
  static ExprPtr make(ExprKind kind, int line);

  int depth_ = 0;  ///< of blocks and expressions

 private:
  using Parsed = Outcome<ExprPtr>;

  template <class ParseItem>
  Parsed tuple_of(const ParseItem& parse_item, EndWords end_words, bool in_parentheses);
  bool at_tuple_end(EndWords end_words) const;
  template <class ParseOperand>
  Parsed logical(std::string_view word, ExprKind kind, const ParseOperand& operand);
  Parsed parse_or();
  Parsed parse_and();
  Parsed parse_not();
  Parsed comparison();
  template <class ParseOperand>
  Parsed binary(std::initializer_list<std::string_view> operators, const ParseOperand& operand);
  Parsed sum();
  Parsed concat();
  Parsed product();
  Parsed power();
  Parsed unary(bool with_filter);

  Parsed primary();
  Parsed constant(Value value, int line) const;
  Parsed integer(const Token& token) const;
  Parsed real(const Token& token) const;
  Parsed list(int line);
  Parsed dict(int line);
  Parsed postfix(ExprPtr left);
  Parsed filters_and_tests(ExprPtr left);
  Parsed subscript(ExprPtr left);
  Parsed call(ExprPtr left);
  Outcome<void> arguments(Expr& made);
  Parsed one_filter(ExprPtr left);
  Parsed test(ExprPtr left);
};

}  // namespace gem8::jinja
