#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "foundation/result.h"

/// Instruction set levels, their detection, and the registry rows of the kernel families.
namespace gem8::isa {

/// Ordered: a CPU that has a level runs every lower one.
enum class Level : std::uint8_t {
  kReference,   ///< plain scalar C++: the specification
  kAvx2,        ///< AVX2, FMA, F16C
  kAvx512Bf16,  ///< AVX-512 F, BW, DQ, VL, VBMI, BF16 (Zen 4, Sapphire Rapids and later)
};

inline constexpr Level kAny = Level::kReference;
inline constexpr Level kAvx2 = Level::kAvx2;
inline constexpr Level kAvx512Bf16 = Level::kAvx512Bf16;

/// "reference", "avx2", "avx512bf16": what GEM8_ISA understands.
std::string_view level_name(Level level);

/// The best level this CPU and operating system run.
Level detect();

/// detect(), or the level that the environment variable GEM8_ISA names (for tests). Errors:
/// kInvalidArgument for an unknown name, kUnsupported for a level that this CPU lacks.
Result<Level> choose();

/// How a row's results relate to the reference row's.
enum class Numerics : std::uint8_t {
  kExact,    ///< bit for bit
  kRounded,  ///< the same formula in F32 with another order of summation or another exp/tanh: a
             ///< bound derived per family
};

/// One variant of a kernel family. Registries list the fastest first and the reference last.
template <class Kernel>
struct Row {
  Level needs;
  const char* name;
  Kernel kernel;
  Numerics numerics;
};

/// The first row that runs at `level`. Rows end with one that needs nothing.
template <class Kernel>
const Row<Kernel>& pick(std::span<const Row<Kernel>> rows, Level level) {
  for (const Row<Kernel>& row : rows) {
    if (row.needs <= level) return row;
  }
  return rows.back();
}

}  // namespace gem8::isa

// A registry (.inc) consists of ROW and ROW_X86 lines; whoever includes it defines ROW(needs,
// kernel, numerics).
#if defined(__x86_64__)
#define ROW_X86(needs, kernel, numerics) ROW(needs, kernel, numerics)
#else
#define ROW_X86(needs, kernel, numerics)
#endif
