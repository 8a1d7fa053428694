// In this order: the vectors, what is written over them, the family.
#include "kernels/simd/vec_avx512.h"

#include "kernels/simd/math.h"

#include "kernels/elementwise/elementwise_body.h"

namespace gem8 {

extern const ElementwiseKernel elementwise_avx512bf16;
const ElementwiseKernel elementwise_avx512bf16 = {gelu_mul, add, scale, soft_cap};

}  // namespace gem8
