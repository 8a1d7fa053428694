#include "cli/version.h"

#include <fmt/format.h>

#include "kernels/isa/isa.h"

namespace gem8::cli {

std::string version_text() {
  return fmt::format("gem8 {}\ncompiler: {}\ncpu: {}\ncuda devices: none (built without CUDA)",
                     GEM8_VERSION, GEM8_COMPILER, isa::level_name(isa::detect()));
}

}  // namespace gem8::cli
