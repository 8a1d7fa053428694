#pragma once

#include <cstddef>
#include <cstdint>
#include <ctime>
#include <functional>

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

}  // namespace gem8::jinja
