#include "cli/version.h"

#include <fmt/format.h>

namespace gem8::cli {

std::string version_text() {
  return fmt::format("gem8 {}\ncompiler: {}\ncuda devices: none (built without CUDA)", GEM8_VERSION,
                     GEM8_COMPILER);
}

}  // namespace gem8::cli
