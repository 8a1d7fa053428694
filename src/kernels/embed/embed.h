#pragma once

#include <cstdint>
#include <span>

#include "foundation/thread_pool.h"
#include "kernels/ops.h"

namespace gem8 {

/// Moves rows; bound by memory, so there is one variant. Contracts: Ops::embed, scatter_rows,
/// gather_rows.
void embed_rows(ThreadPool& pool, std::span<const TokenId> ids, const LinearWeight& table,
                float scale, const Mat& y);
void scatter_rows(ThreadPool& pool, const ConstMat& x, std::span<const std::int32_t> rows,
                  const Mat& y);
void gather_rows(ThreadPool& pool, const ConstMat& x, std::span<const std::int32_t> rows,
                 const Mat& y);

}  // namespace gem8
