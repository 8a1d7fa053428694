#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "text/jinja/render_options.h"
#include "text/jinja/value/value.h"

namespace gem8::jinja {

/// A chat template: Jinja2 (3.1) as transformers sets it up: trim_blocks, lstrip_blocks,
/// loopcontrols, generation blocks, raise_exception, strftime_now, its own tojson, an immutable
/// sandbox, no autoescape. What is not implemented is an error that names it, at parsing for
/// syntax, filters and tests, at rendering for methods and formats; nothing renders differently in
/// silence, with one exception: values marked safe are plain text, so text added to them is not
/// escaped. Immutable: threads may share one.
class Template {
 public:
  static Outcome<Template> parse(std::string_view source);

  Template(Template&&) noexcept;
  Template& operator=(Template&&) noexcept;
  ~Template();

  /// `context` is a dict of the names the template sees.
  Outcome<std::string> render(const Value& context, const RenderOptions& options = {}) const;

 private:
  struct Tree;
  explicit Template(std::unique_ptr<Tree> tree);
  std::unique_ptr<const Tree> tree_;
};

}  // namespace gem8::jinja
