#pragma once

#include <span>

#include "foundation/thread_pool.h"
#include "kernels/ops.h"

namespace gem8 {

/// Writes keys and values into pages; bound by memory, so there is one variant. Contract:
/// Ops::store_kv and KvLayer.
void store_kv(ThreadPool& pool, const ConstMat& k, const ConstMat& v, const KvLayer& layer,
              std::span<const SequenceRows> sequences);

}  // namespace gem8
