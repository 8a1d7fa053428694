#pragma once

#include <optional>

#include "text/jinja/render/scope.h"
#include "text/jinja/syntax/ast.h"
#include "text/jinja/value/object.h"

namespace gem8::jinja {

class Renderer;

/// The variable `loop` of a for block, which also knows the items and the one it is at.
class Loop : public Object {
 public:
  /// `level`: recursive loops around this one.
  Loop(List items, int level) : items_(std::move(items)), level_(level) {}
  /// Makes it callable: the same for block over other items, as text.
  void make_recursive(Renderer& renderer, const Statement& definition, ScopePtr scope);
  /// A recursive loop holds the scope that may hold it: cuts the tie.
  void release() { scope_.reset(); }

  bool at_end() const { return index_ == items_.size(); }
  const Value& item() const { return items_[index_]; }
  void advance() { ++index_; }

  std::string_view type_name() const override { return "LoopContext"; }
  std::optional<Value> attribute(std::string_view name) override;
  bool callable() const override { return definition_ != nullptr; }
  Outcome<Value> call(Runtime& runtime, Arguments arguments) override;

 private:
  Outcome<Value> cycle(const Arguments& arguments) const;
  Value changed(Arguments arguments);

  List items_;
  std::size_t index_ = 0;
  int level_;
  std::optional<List> last_changed_;
  Renderer* renderer_ = nullptr;
  const Statement* definition_ = nullptr;
  ScopePtr scope_;
};

}  // namespace gem8::jinja
