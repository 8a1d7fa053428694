#include "kernels/isa/isa.h"

#include <array>
#include <cstdlib>

namespace gem8::isa {
namespace {

constexpr std::array kLevels = {Level::kReference, Level::kAvx2, Level::kAvx512Bf16};

}  // namespace

std::string_view level_name(Level level) {
  switch (level) {
    case Level::kReference:
      return "reference";
    case Level::kAvx2:
      return "avx2";
    case Level::kAvx512Bf16:
      return "avx512bf16";
  }
  return "unknown";
}

Level detect() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  // The compiler's detection includes whether the operating system saves the wide registers.
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  if (!avx2) return Level::kReference;
  const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
                      __builtin_cpu_supports("avx512vbmi") && __builtin_cpu_supports("avx512bf16");
  return avx512 ? Level::kAvx512Bf16 : Level::kAvx2;
#else
  return Level::kReference;
#endif
}

Result<Level> choose() {
  const Level best = detect();
  const char* forced = std::getenv("GEM8_ISA");
  if (forced == nullptr || *forced == '\0') return best;
  for (const Level level : kLevels) {
    if (level_name(level) != forced) continue;
    if (level > best) {
      return fail(Code::kUnsupported, "GEM8_ISA={}: this CPU runs {} at most", forced,
                  level_name(best));
    }
    return level;
  }
  return fail(Code::kInvalidArgument, "GEM8_ISA={}: want reference, avx2 or avx512bf16", forced);
}

}  // namespace gem8::isa
