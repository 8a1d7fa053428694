// In this order: the vectors, what is written over them, the family.
#include "kernels/simd/vec_avx2.h"

#include "kernels/simd/math.h"

#include "kernels/rms_norm/rms_norm_body.h"

namespace gem8 {

extern const RmsNormKernel rms_norm_avx2;
const RmsNormKernel rms_norm_avx2 = {norm, norm_add, norm_rope};

}  // namespace gem8
