// In this order: the vectors, what is written over them, the family.
#include "kernels/simd/vec_avx512.h"

#include "kernels/simd/math.h"

#include "kernels/linear/arith_avx512bf16.h"

#include "kernels/attention/attention_body.h"

namespace gem8 {

extern const AttentionKernel attention_avx512bf16;
const AttentionKernel attention_avx512bf16 = {partial, merge, finish};

}  // namespace gem8
