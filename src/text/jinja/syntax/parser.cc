#include "text/jinja/syntax/parser.h"

#include <algorithm>
#include <initializer_list>

#include "text/jinja/depth.h"
#include "text/jinja/syntax/expression_parser.h"
#include "text/jinja/syntax/lexer.h"

namespace gem8::jinja {
namespace {

class StatementParser : private ExpressionParser {
 public:
  explicit StatementParser(std::vector<Token> tokens) : ExpressionParser(std::move(tokens)) {}

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
      GEM8_TRY(made.expr, filter_chain());
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
    if (skip_operator("|")) {
      GEM8_TRY(made.expr, filter_chain());
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

  int n_loops_ = 0;
  int n_elifs_ = 0;
};

}  // namespace

Outcome<Block> parse_template(std::string_view source) {
  GEM8_TRY(std::vector<Token> tokens, tokenize(source));
  return StatementParser(std::move(tokens)).run();
}

}  // namespace gem8::jinja
