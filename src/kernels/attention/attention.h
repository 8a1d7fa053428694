#pragma once

#include <cstdint>
#include <span>

#include "kernels/isa/isa.h"
#include "kernels/ops.h"

namespace gem8 {

struct KernelContext;

/// The keys of one query form a range: lo = max(0, q - window + 1), hi = q, or the end of q's image
/// block. One query of a tile:
struct AttentionQuery {
  const void* q = nullptr;  ///< head_dim elements of the activation dtype
  std::int64_t lo = 0;      ///< first and last key position allowed
  std::int64_t hi = -1;
};

/// Softmax state of one query over some keys: value sum = acc / sum, with weights relative to
/// exp(max). Empty: max = kNoKeys, sum = 0, acc = 0; merging an empty state changes no bit.
struct AttentionState {
  static constexpr float kNoKeys = -1e30f;

  float* max = nullptr;  ///< [queries]
  float* sum = nullptr;  ///< [queries]
  float* acc = nullptr;  ///< [queries, head_dim]
};

/// Overwrites `state` with the softmax state of each query over its keys within [key_begin,
/// key_end).
///
/// All queries read the same KV head of the same sequence. Keys are taken in blocks aligned to
/// absolute positions and a query's arithmetic does not depend on the others of the tile: chunking
/// and batching cannot change a bit.
struct AttentionTile {
  const KvLayer* layer = nullptr;
  std::int64_t kv_head = 0;
  const std::int32_t* pages = nullptr;
  const AttentionQuery* queries = nullptr;
  std::int64_t n_queries = 0;
  std::int64_t key_begin = 0;
  std::int64_t key_end = 0;
  AttentionState state;
  void* scratch = nullptr;  ///< attention_scratch_bytes()
};

/// One variant.
struct AttentionKernel {
  void (*partial)(const AttentionTile&) noexcept;
  /// total = total merged with part, for n queries.
  void (*merge)(const AttentionState& total, const AttentionState& part, std::int64_t n,
                std::int64_t head_dim) noexcept;
  /// y[i] = R(acc / sum) into n addresses of the activation dtype.
  void (*finish)(const AttentionState& total, std::int64_t n, std::int64_t head_dim, void* const* y,
                 DType dtype) noexcept;
};

std::span<const isa::Row<AttentionKernel>> attention_rows();

/// Queries a driver puts in one tile at most.
inline constexpr std::int64_t kAttentionTileQueries = 32;
/// Keys of one partial softmax: a fixed cut at absolute multiples, so that who computes which part
/// changes no bit.
inline constexpr std::int64_t kAttentionSplitKeys = 1024;

/// Room for a tile's scores, and for its queries with a folded norm weight.
constexpr std::size_t attention_scratch_bytes(std::int64_t head_dim) {
  return static_cast<std::size_t>(kAttentionTileQueries) *
             (static_cast<std::size_t>(head_dim) * 4 + 4 * 64) +
         4096;
}

/// Contract: Ops::attention.
void attention(KernelContext& context, const AttentionKernel& kernel, const ConstMat& q,
               std::int64_t heads, const KvLayer& layer, const AttentionStep& step, const Mat& y);

}  // namespace gem8
