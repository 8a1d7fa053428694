#pragma once

#include <memory>
#include <string>
#include <vector>

#include "text/jinja/render/scope.h"
#include "text/jinja/runtime.h"
#include "text/jinja/syntax/ast.h"

namespace gem8::jinja {

class Loop;
class Macro;

/// Where a statement leaves the loop around it.
enum class Flow { kOn, kBreak, kContinue };

/// One rendering of a template: executes statements, and holds what they made until it ends.
class Renderer {
 public:
  Renderer(const Value& context, const RenderOptions& options);
  ~Renderer();
  Renderer(const Renderer&) = delete;
  Renderer& operator=(const Renderer&) = delete;

  Outcome<std::string> run(const Block& body);

  Outcome<Flow> execute(const Block& block, const ScopePtr& scope, std::string& out);
  /// A for block over other items: `level` recursive loops are around it.
  Outcome<Flow> loop_over(const Statement& s, const Value& sequence, const ScopePtr& scope,
                          int level, std::string& out);

 private:
  Outcome<Flow> execute(const Statement& s, const ScopePtr& scope, std::string& out);
  Outcome<void> print(const Value& value, std::string& out);
  Outcome<Flow> captured(const Statement& s, const ScopePtr& scope, std::string& out);
  Outcome<void> call_block(const Statement& s, const ScopePtr& scope, std::string& out);
  Outcome<Flow> with(const Statement& s, const ScopePtr& scope, std::string& out);
  Outcome<List> chosen_items(const Statement& s, const Value& sequence, const ScopePtr& scope);
  Value macro(const Statement& s, std::string name, const ScopePtr& scope);
  Outcome<void> assign(const Expr& target, const Value& value, Scope& scope);

  Runtime runtime_;
  ScopePtr top_;
  std::vector<ScopePtr> captured_;  ///< by macros
  std::vector<std::shared_ptr<Loop>> recursive_loops_;
};

}  // namespace gem8::jinja
