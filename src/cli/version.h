#pragma once

#include <string>

namespace gem8::cli {

/// What `gem8 --version` prints: version, compiler, the CPU level the kernels use, CUDA devices.
std::string version_text();

}  // namespace gem8::cli
