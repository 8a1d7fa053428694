#include "kernels/rms_norm/rms_norm.h"

namespace gem8 {

#define ROW(needs, kernel, numerics) extern const RmsNormKernel kernel;
#include "kernels/rms_norm/rms_norm.inc"
#undef ROW

std::span<const isa::Row<RmsNormKernel>> rms_norm_rows() {
  static const isa::Row<RmsNormKernel> rows[] = {
#define ROW(needs, kernel, numerics) {needs, #kernel, kernel, numerics},
#include "kernels/rms_norm/rms_norm.inc"
#undef ROW
  };
  return rows;
}

}  // namespace gem8
