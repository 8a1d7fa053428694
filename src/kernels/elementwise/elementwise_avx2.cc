// In this order: the vectors, what is written over them, the family.
#include "kernels/simd/vec_avx2.h"

#include "kernels/simd/math.h"

#include "kernels/elementwise/elementwise_body.h"

namespace gem8 {

extern const ElementwiseKernel elementwise_avx2;
const ElementwiseKernel elementwise_avx2 = {gelu_mul, add, scale, soft_cap};

}  // namespace gem8
