#include "text/jinja/parser.h"

#include <algorithm>
#include <charconv>
#include <initializer_list>

#include "text/jinja/filters.h"
#include "text/jinja/lexer.h"

namespace gem8::jinja {
namespace {

constexpr int kMaxNesting = 120;

/// Which words end an expression list besides the closing tokens.
using EndWords = std::initializer_list<std::string_view>;

class Parser {
 public:
  explicit Parser(std::vector<Token> tokens) : tokens_(std::move(tokens)) {}

  Outcome<Block> run() {
    Block body;
    auto ended = block(body, {}, "");
    if (!ended) {
      if (ended.error().line == 0) ended.error().line = now().line;
      return std::unexpected(std::move(ended.error()));
    }
    return body;
  }

 private:
  using Step = Outcome<void>;
  using Parsed = Outcome<ExprPtr>;

  struct Deeper {
    explicit Deeper(int& depth) : depth_(depth) { ++depth_; }
    ~Deeper() { --depth_; }
    int& depth_;
  };

  const Token& now() const { return tokens_[at_]; }
  const Token& ahead() const { return tokens_[std::min(at_ + 1, tokens_.size() - 1)]; }
  Token take() {
    Token token = tokens_[at_];
    if (at_ + 1 < tokens_.size()) ++at_;
    return token;
  }
  bool is_operator(std::string_view text) const {
    return now().kind == TokenKind::kOperator && now().text == text;
  }
  bool is_name(std::string_view text) const {
    return now().kind == TokenKind::kName && now().text == text;
  }
  bool skip_operator(std::string_view text) {
    if (!is_operator(text)) return false;
    take();
    return true;
  }
  bool skip_name(std::string_view text) {
    if (!is_name(text)) return false;
    take();
    return true;
  }
  template <class... Args>
  std::unexpected<TemplateError> wrong(fmt::format_string<Args...> format, Args&&... args) const {
    return std::unexpected(TemplateError{
        ErrorClass::kSyntax, fmt::format(format, std::forward<Args>(args)...), now().line});
  }
  Step expect_operator(std::string_view text) {
    if (!skip_operator(text)) return wrong("expected '{}', got {}", text, describe(now()));
    return {};
  }
  Step expect_name(std::string_view text) {
    if (!skip_name(text)) return wrong("expected '{}', got {}", text, describe(now()));
    return {};
  }
  Outcome<std::string> any_name() {
    if (now().kind != TokenKind::kName) return wrong("expected a name, got {}", describe(now()));
    return take().text;
  }
  Step expect_block_end() {
    if (now().kind != TokenKind::kBlockEnd)
      return wrong("expected end of statement block, got {}", describe(now()));
    take();
    return {};
  }
  ExprPtr make(ExprKind kind, int line) const {
    auto expr = std::make_unique<Expr>();
    expr->kind = kind;
    expr->line = line;
    return expr;
  }

  // --- statements ---

  /// Statements until "{% word" with one of `ends`; the word is left to be taken. Without ends:
  /// until the template ends.
  Outcome<void> block(Block& out, std::initializer_list<std::string_view> ends,
                      std::string_view opener) {
    const Deeper deeper(depth_);
    if (depth_ > kMaxNesting)
      return failure(ErrorClass::kLimit, "blocks nested more than {} deep", kMaxNesting);
    for (;;) {
      switch (now().kind) {
        case TokenKind::kEnd:
          if (ends.size() == 0) return {};
          return wrong("unexpected end of template: '{}' is not closed", opener);
        case TokenKind::kData: {
          Statement text{.kind = StatementKind::kText, .line = now().line};
          text.text = take().text;
          out.push_back(std::move(text));
          break;
        }
        case TokenKind::kVariableBegin: {
          Statement print{.kind = StatementKind::kPrint, .line = now().line};
          take();
          GEM8_TRY(print.expr, tuple(true, {}, false));
          if (now().kind != TokenKind::kVariableEnd)
            return wrong("expected end of print statement, got {}", describe(now()));
          take();
          out.push_back(std::move(print));
          break;
        }
        case TokenKind::kBlockBegin: {
          if (ahead().kind == TokenKind::kName &&
              std::ranges::find(ends, ahead().text) != ends.end()) {
            take();
            return {};
          }
          take();
          auto done = statement(out);
          if (!done) return done;
          break;
        }
        default:
          return wrong("unexpected {}", describe(now()));
      }
    }
  }

  /// The rest of a block: "%}", the body, "{% end %}".
  Step body_until(Block& out, std::string_view opener, std::string_view end) {
    GEM8_RETURN_IF_ERROR(expect_block_end());
    GEM8_RETURN_IF_ERROR(block(out, {end}, opener));
    take();
    return expect_block_end();
  }

  Step statement(Block& out) {
    GEM8_TRY(const std::string word, any_name());
    Statement made{.line = now().line};
    Step done;
    if (word == "for") {
      done = for_statement(made);
    } else if (word == "if") {
      done = if_statement(made);
    } else if (word == "set") {
      done = set_statement(made);
    } else if (word == "macro") {
      done = macro_statement(made);
    } else if (word == "call") {
      done = call_statement(made);
    } else if (word == "filter") {
      made.kind = StatementKind::kFilterBlock;
      GEM8_TRY(made.expr, filters_from(nullptr, true));
      done = body_until(made.body, "filter", "endfilter");
    } else if (word == "with") {
      done = with_statement(made);
    } else if (word == "generation") {
      made.kind = StatementKind::kGeneration;
      done = body_until(made.body, "generation", "endgeneration");
    } else if (word == "break" || word == "continue") {
      if (n_loops_ == 0) return wrong("'{}' outside loop", word);
      made.kind = word == "break" ? StatementKind::kBreak : StatementKind::kContinue;
      done = expect_block_end();
    } else if (word == "include" || word == "import" || word == "from" || word == "extends") {
      return failure(ErrorClass::kType, "'{}' needs another template, and a chat template is alone",
                     word);
    } else if (word == "block" || word == "autoescape" || word == "do" || word == "trans" ||
               word == "debug") {
      return wrong("the tag '{}' is not implemented", word);
    } else {
      return wrong("encountered unknown tag '{}'", word);
    }
    if (!done) return done;
    out.push_back(std::move(made));
    return {};
  }

  Step for_statement(Statement& made) {
    made.kind = StatementKind::kFor;
    GEM8_TRY(made.target, assign_target({"in"}));
    GEM8_RETURN_IF_ERROR(expect_name("in"));
    GEM8_TRY(made.expr, tuple(false, {"recursive"}, false));
    if (skip_name("if")) {
      GEM8_TRY(made.condition, expression());
    }
    made.recursive = skip_name("recursive");
    GEM8_RETURN_IF_ERROR(expect_block_end());
    ++n_loops_;
    GEM8_RETURN_IF_ERROR(block(made.body, {"endfor", "else"}, "for"));
    --n_loops_;
    if (take().text == "else") {
      GEM8_RETURN_IF_ERROR(expect_block_end());
      GEM8_RETURN_IF_ERROR(block(made.otherwise, {"endfor"}, "for"));
      take();
    }
    return expect_block_end();
  }

  Step if_statement(Statement& made) {
    made.kind = StatementKind::kIf;
    Statement* branch = &made;  // an elif is an if alone in the else of the one before
    for (;;) {
      GEM8_TRY(branch->condition, tuple(false, {}, false));
      GEM8_RETURN_IF_ERROR(expect_block_end());
      GEM8_RETURN_IF_ERROR(block(branch->body, {"elif", "else", "endif"}, "if"));
      const std::string word = take().text;
      if (word == "elif") {
        if (++n_elifs_ > 500) return failure(ErrorClass::kLimit, "too many elif");
        branch->otherwise.push_back(Statement{.kind = StatementKind::kIf, .line = now().line});
        branch = &branch->otherwise.back();
        continue;
      }
      if (word == "else") {
        GEM8_RETURN_IF_ERROR(expect_block_end());
        GEM8_RETURN_IF_ERROR(block(branch->otherwise, {"endif"}, "if"));
        take();
      }
      return expect_block_end();
    }
  }

  Step set_statement(Statement& made) {
    if (now().kind == TokenKind::kName && ahead().kind == TokenKind::kOperator &&
        ahead().text == ".") {
      made.target = make(ExprKind::kAttribute, now().line);
      made.target->a = make(ExprKind::kName, now().line);
      made.target->a->text = take().text;
      take();
      GEM8_TRY(made.target->text, any_name());
    } else {
      GEM8_TRY(made.target, assign_target({}));
    }
    if (skip_operator("=")) {
      made.kind = StatementKind::kSet;
      GEM8_TRY(made.expr, tuple(true, {}, false));
      return expect_block_end();
    }
    made.kind = StatementKind::kSetBlock;
    if (is_operator("|")) {
      take();
      GEM8_TRY(made.expr, filters_from(nullptr, true));
    }
    return body_until(made.body, "set", "endset");
  }

  Step parameters(Statement& made) {
    GEM8_RETURN_IF_ERROR(expect_operator("("));
    while (!is_operator(")")) {
      if (!made.parameters.empty()) GEM8_RETURN_IF_ERROR(expect_operator(","));
      Parameter parameter;
      GEM8_TRY(parameter.name, any_name());
      if (skip_operator("=")) {
        GEM8_TRY(parameter.fallback, expression());
      } else if (!made.parameters.empty() && made.parameters.back().fallback) {
        return wrong("non-default argument follows default argument");
      }
      made.parameters.push_back(std::move(parameter));
    }
    return expect_operator(")");
  }

  Step macro_statement(Statement& made) {
    made.kind = StatementKind::kMacro;
    GEM8_TRY(made.text, any_name());
    GEM8_RETURN_IF_ERROR(parameters(made));
    const int n_loops = std::exchange(n_loops_, 0);
    GEM8_RETURN_IF_ERROR(body_until(made.body, "macro", "endmacro"));
    n_loops_ = n_loops;
    return {};
  }

  Step call_statement(Statement& made) {
    made.kind = StatementKind::kCallBlock;
    if (is_operator("(")) GEM8_RETURN_IF_ERROR(parameters(made));
    GEM8_TRY(made.expr, expression());
    if (made.expr->kind != ExprKind::kCall) return wrong("expected call");
    const int n_loops = std::exchange(n_loops_, 0);
    GEM8_RETURN_IF_ERROR(body_until(made.body, "call", "endcall"));
    n_loops_ = n_loops;
    return {};
  }

  Step with_statement(Statement& made) {
    made.kind = StatementKind::kWith;
    while (now().kind != TokenKind::kBlockEnd) {
      if (!made.targets.empty()) GEM8_RETURN_IF_ERROR(expect_operator(","));
      GEM8_TRY(ExprPtr target, assign_target({}));
      GEM8_RETURN_IF_ERROR(expect_operator("="));
      GEM8_TRY(ExprPtr value, expression());
      made.targets.push_back(std::move(target));
      made.values.push_back(std::move(value));
    }
    return body_until(made.body, "with", "endwith");
  }

  /// A name, or names in a tuple, possibly nested.
  Parsed assign_target(EndWords end_words) {
    GEM8_TRY(ExprPtr target, tuple_of([this] { return primary(); }, end_words, false));
    if (!assignable(*target)) return wrong("cannot assign to this");
    return target;
  }
  static bool assignable(const Expr& expr) {
    if (expr.kind == ExprKind::kName) return true;
    return (expr.kind == ExprKind::kTuple || expr.kind == ExprKind::kList) &&
           std::ranges::all_of(expr.items, [](const ExprPtr& item) { return assignable(*item); });
  }

  // --- expressions, loosest first ---

  Parsed tuple(bool with_condition, EndWords end_words, bool in_parentheses) {
    return tuple_of([this, with_condition] { return expression(with_condition); }, end_words,
                    in_parentheses);
  }

  template <class ParseItem>
  Parsed tuple_of(const ParseItem& parse_item, EndWords end_words, bool in_parentheses) {
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
    if (!is_tuple && !in_parentheses)
      return wrong("expected an expression, got {}", describe(now()));
    ExprPtr made = make(ExprKind::kTuple, line);
    made->items = std::move(items);
    return made;
  }
  bool at_tuple_end(EndWords end_words) const {
    if (now().kind == TokenKind::kVariableEnd || now().kind == TokenKind::kBlockEnd ||
        is_operator(")"))
      return true;
    return now().kind == TokenKind::kName &&
           std::ranges::find(end_words, now().text) != end_words.end();
  }

  Parsed expression(bool with_condition = true) {
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
  Parsed logical(std::string_view word, ExprKind kind, const ParseOperand& operand) {
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
  Parsed parse_or() {
    return logical("or", ExprKind::kOr, [this] { return parse_and(); });
  }
  Parsed parse_and() {
    return logical("and", ExprKind::kAnd, [this] { return parse_not(); });
  }
  Parsed parse_not() {
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

  Parsed comparison() {
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

  /// Chains such as a + b + c grow a tree to the left, as deep as they are long: bounded, for
  /// evaluation recurses.
  Step grows(Expr& made) {
    int depth = 0;
    for (const Expr* at = made.a.get();
         at != nullptr && at->kind == made.kind && depth <= kMaxChain; at = at->a.get())
      ++depth;
    if (depth > kMaxChain)
      return failure(ErrorClass::kLimit, "more than {} operators in a row", kMaxChain);
    return {};
  }
  template <class ParseOperand>
  Parsed binary(std::initializer_list<std::string_view> operators, const ParseOperand& operand) {
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
  Parsed sum() {
    return binary({"+", "-"}, [this] { return concat(); });
  }
  Parsed concat() {
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
  Parsed product() {
    return binary({"*", "/", "//", "%"}, [this] { return power(); });
  }
  Parsed power() {
    return binary({"**"}, [this] { return unary(true); });
  }

  Parsed unary(bool with_filter) {
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

  Parsed primary() {
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
      case TokenKind::kFloat: {
        const Token token = take();
        double value = 0;
        const auto [end, error] =
            std::from_chars(token.text.data(), token.text.data() + token.text.size(), value);
        if (error != std::errc()) return wrong("the number {} is out of range", token.text);
        return constant(value, line);
      }
      default:
        break;
    }
    if (skip_operator("(")) {
      GEM8_TRY(ExprPtr made, tuple(true, {}, true));
      GEM8_RETURN_IF_ERROR(expect_operator(")"));
      return made;
    }
    if (skip_operator("[")) {
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
    if (skip_operator("{")) {
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
    return wrong("expected an expression, got {}", describe(now()));
  }

  Parsed constant(Value value, int line) const {
    ExprPtr made = make(ExprKind::kConstant, line);
    made->value = std::move(value);
    return made;
  }
  Parsed integer(const Token& token) const {
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

  Parsed postfix(ExprPtr left) {
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

  Parsed filters_and_tests(ExprPtr left) {
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

  Parsed subscript(ExprPtr left) {
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

  Step arguments(Expr& made) {
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

  Parsed call(ExprPtr left) {
    ExprPtr made = make(ExprKind::kCall, now().line);
    made->a = std::move(left);
    GEM8_RETURN_IF_ERROR(arguments(*made));
    return made;
  }

  Parsed one_filter(ExprPtr left) {
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

  /// name | name...: the head of a filter block, or what follows "set x |".
  Parsed filters_from(ExprPtr left, bool first) {
    for (int n = 0; first || is_operator("|"); first = false, ++n) {
      if (n > kMaxChain)
        return failure(ErrorClass::kLimit, "more than {} filters in a row", kMaxChain);
      if (!first) take();
      GEM8_TRY(left, one_filter(std::move(left)));
    }
    return left;
  }

  Parsed test(ExprPtr left) {
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

  static constexpr int kMaxChain = 200;

  std::vector<Token> tokens_;
  std::size_t at_ = 0;
  int depth_ = 0;
  int n_loops_ = 0;
  int n_elifs_ = 0;
};

}  // namespace

Outcome<Block> parse_template(std::string_view source) {
  GEM8_TRY(std::vector<Token> tokens, tokenize(source));
  return Parser(std::move(tokens)).run();
}

}  // namespace gem8::jinja
