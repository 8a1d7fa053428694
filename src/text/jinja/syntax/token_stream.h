#pragma once

#include <algorithm>
#include <string_view>
#include <utility>
#include <vector>

#include "text/jinja/syntax/lexer.h"

namespace gem8::jinja {

/// A template's tokens, read from the front with one token of foresight.
class TokenStream {
 public:
  explicit TokenStream(std::vector<Token> tokens) : tokens_(std::move(tokens)) {}

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
  Outcome<void> expect_operator(std::string_view text) {
    if (!skip_operator(text)) return wrong("expected '{}', got {}", text, describe(now()));
    return {};
  }
  Outcome<void> expect_name(std::string_view text) {
    if (!skip_name(text)) return wrong("expected '{}', got {}", text, describe(now()));
    return {};
  }
  Outcome<std::string> any_name() {
    if (now().kind != TokenKind::kName) return wrong("expected a name, got {}", describe(now()));
    return take().text;
  }
  Outcome<void> expect_block_end() {
    if (now().kind != TokenKind::kBlockEnd)
      return wrong("expected end of statement block, got {}", describe(now()));
    take();
    return {};
  }

 private:
  std::vector<Token> tokens_;
  std::size_t at_ = 0;
};

}  // namespace gem8::jinja
