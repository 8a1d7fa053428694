#pragma once

#include <ctime>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "text/jinja/render_options.h"
#include "text/jinja/value/value.h"

namespace gem8::jinja {

/// What one rendering may still spend, its clock, and the namespaces it made. Filters, methods and
/// operators charge it for their work.
class Runtime {
 public:
  explicit Runtime(const RenderOptions& options) : options_(options) {}
  ~Runtime();
  Runtime(const Runtime&) = delete;
  Runtime& operator=(const Runtime&) = delete;

  /// Takes `n` units from the budget of steps; kLimit when it is spent. One unit is about one node,
  /// one list item or 64 bytes.
  Outcome<void> charge(std::uint64_t n);
  /// Into a node of the template: one step, on that line, not deeper than allowed.
  Outcome<void> enter(int line);
  /// Into a macro or a recursive loop, not deeper than allowed.
  Outcome<void> enter_macro() const;
  /// out += text, within the bound on output.
  Outcome<void> append(std::string& out, std::string_view text);

  /// Local time, as strftime_now sees it.
  std::tm now() const;
  /// Namespaces may hold each other: they are emptied when the rendering ends.
  Outcome<Value> make_namespace(Dict members);

  int depth = 0;        ///< of nested evaluations
  int macro_depth = 0;  ///< of macros and recursive loops within each other
  int line = 0;         ///< of the node entered last

 private:
  const RenderOptions& options_;
  std::uint64_t steps_ = 0;
  std::vector<std::shared_ptr<Dict>> namespaces_;
};

}  // namespace gem8::jinja
