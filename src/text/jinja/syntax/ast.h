#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "text/jinja/value/value.h"

namespace gem8::jinja {

struct Expr;
using ExprPtr = std::unique_ptr<Expr>;

enum class ExprKind {
  kConstant,   ///< value
  kName,       ///< text
  kList,       ///< items
  kTuple,      ///< items
  kDict,       ///< items: key, value, key, value...
  kCondition,  ///< a if b else c (c may be null)
  kOr,         ///< a, b
  kAnd,        ///< a, b
  kNot,        ///< a
  kCompare,    ///< a, then operators[i] items[i]
  kBinary,     ///< a text b
  kConcat,     ///< items
  kNegate,     ///< a
  kPlus,       ///< a
  kAttribute,  ///< a.text
  kSubscript,  ///< a[b]
  kSlice,      ///< a[b:c:d], any of b, c, d null
  kCall,       ///< a(items, named)
  kFilter,     ///< a | text(items, named); a is null at the head of a filter block
  kTest        ///< a is text(items, named)
};

struct Expr {
  ExprKind kind;
  int line = 0;
  std::string text;
  Value value;
  ExprPtr a, b, c, d;
  std::vector<ExprPtr> items;
  std::vector<std::pair<std::string, ExprPtr>> named;
  std::vector<std::string> operators;
};

struct Statement;
using Block = std::vector<Statement>;

/// A parameter of a macro or call block.
struct Parameter {
  std::string name;
  ExprPtr fallback;  ///< null: undefined
};

enum class StatementKind {
  kText,         ///< text
  kPrint,        ///< expr
  kFor,          ///< for target in expr [if condition] body else otherwise
  kIf,           ///< if condition body else otherwise
  kSet,          ///< target = expr
  kSetBlock,     ///< target = body through the filters of expr (may be null)
  kMacro,        ///< text(parameters) body
  kCallBlock,    ///< expr is the call; parameters and body are caller()
  kFilterBlock,  ///< body through the filters of expr
  kWith,         ///< targets[i] = values[i], body
  kGeneration,   ///< body
  kBreak,
  kContinue
};

struct Statement {
  StatementKind kind;
  int line = 0;
  std::string text;
  ExprPtr target;
  ExprPtr expr;
  ExprPtr condition;
  bool recursive = false;
  std::vector<Parameter> parameters;
  std::vector<ExprPtr> targets, values;
  Block body, otherwise;
};

}  // namespace gem8::jinja
