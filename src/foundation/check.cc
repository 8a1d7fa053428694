#include "foundation/check.h"

#include <cstdio>
#include <cstdlib>

namespace gem8::internal {

void check_failed(const char* condition, const char* file, int line) {
  std::fprintf(stderr, "gem8: internal error: %s does not hold at %s:%d\n", condition, file, line);
  std::abort();
}

}  // namespace gem8::internal
