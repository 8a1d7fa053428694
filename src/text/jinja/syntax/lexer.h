#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "text/jinja/error.h"

namespace gem8::jinja {

enum class TokenKind {
  kData,  ///< text between tags
  kBlockBegin,
  kBlockEnd,
  kVariableBegin,
  kVariableEnd,
  kName,
  kString,
  kInteger,
  kFloat,
  kOperator,
  kEnd
};

struct Token {
  TokenKind kind;
  std::string text;  ///< data, name, operator, unescaped string, number as written without '_'
  int line;
};

/// Cuts a template into tokens as Jinja2's lexer does with trim_blocks and lstrip_blocks on (what
/// transformers sets): white space control is applied, comments are gone, raw blocks are data. The
/// last token is kEnd.
Outcome<std::vector<Token>> tokenize(std::string_view source);

/// "end of print statement", "'in'": for messages.
std::string describe(const Token& token);

}  // namespace gem8::jinja
