// In this order: the vectors, what is written over them, the family.
#include "kernels/simd/vec_avx2.h"

#include "kernels/simd/math.h"

#include "kernels/image_attention/image_attention_body.h"

namespace gem8 {

extern const ImageAttentionKernel image_attention_avx2;
const ImageAttentionKernel image_attention_avx2 = {attend};

}  // namespace gem8
