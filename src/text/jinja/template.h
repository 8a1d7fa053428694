#pragma once

#include <ctime>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "text/jinja/value.h"

namespace gem8::jinja {

/// Bounds on one rendering, so that no template and no request can hang or exhaust the process.
struct RenderLimits {
  std::uint64_t max_steps =
      50'000'000;  ///< nodes evaluated, items and 64-byte lines of text copied
  std::size_t max_output_bytes = std::size_t{64} << 20;
  int max_depth = 1500;       ///< nested evaluations; a macro call takes about ten
  int max_macro_depth = 128;  ///< macros (and recursive loops) within macros
};

struct RenderOptions {
  RenderLimits limits;
  std::function<std::tm()> now;  ///< local time for strftime_now; the clock's when empty
};

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
