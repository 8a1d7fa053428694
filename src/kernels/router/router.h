#pragma once

#include "kernels/context.h"
#include "kernels/linear/linear.h"
#include "kernels/ops.h"

namespace gem8 {

/// Contract: Ops::router. A composition: the norm in double, the projection by the F32 dot of
/// `kernel`, the choice in double.
void router(KernelContext& context, const LinearKernel& kernel, const ConstMat& x,
            const RouterWeights& weights, float eps, const Routing& routing, const Mat& logits);

}  // namespace gem8
