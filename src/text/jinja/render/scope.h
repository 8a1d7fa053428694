#pragma once

#include <memory>
#include <string>
#include <unordered_map>

#include "text/jinja/value/value.h"

namespace gem8::jinja {

/// Names of one block. Inner scopes see outer ones; `set` writes the innermost.
struct Scope {
  std::shared_ptr<Scope> outer;
  std::unordered_map<std::string, Value> names;

  const Value* find(const std::string& name) const {
    for (const Scope* scope = this; scope != nullptr; scope = scope->outer.get()) {
      if (const auto place = scope->names.find(name); place != scope->names.end())
        return &place->second;
    }
    return nullptr;
  }
};
using ScopePtr = std::shared_ptr<Scope>;

inline ScopePtr inner(const ScopePtr& outer) {
  auto scope = std::make_shared<Scope>();
  scope->outer = outer;
  return scope;
}

}  // namespace gem8::jinja
