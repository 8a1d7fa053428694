#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "backend/device.h"
#include "foundation/result.h"
#include "kernels/ops.h"

namespace gem8 {

struct TextConfig;

/// An open sequence of a KvCache.
enum class CacheSeq : std::int32_t {};
/// Layers with the same memory of the past share a pool of pages.
enum class CacheGroup { kSliding, kFull };

struct KvCacheOptions {
  std::int64_t sliding_pages = 0;
  std::int64_t full_pages = 0;
  /// The layers that get storage; empty: every layer that owns a cache. For running one layer at a
  /// time (calibration).
  std::span<const std::int32_t> layers;
};

/// What a cache costs. Bytes are exact: pages times these numbers is what create() allocates.
struct KvCacheCost {
  std::int64_t sliding_page_bytes = 0;  ///< one page of the sliding group, all its layers
  std::int64_t full_page_bytes = 0;
  std::int64_t window = 0;

  /// Pages that a sequence of n_tokens holds in each group at most, when no step adds more than
  /// max_chunk tokens to it.
  std::int64_t sliding_pages(std::int64_t n_tokens, std::int64_t max_chunk) const;
  std::int64_t full_pages(std::int64_t n_tokens) const;
};
KvCacheCost kv_cache_cost(const TextConfig& config, DType dtype);

/// Divides `bytes` between the groups: enough sliding pages for max_sequences sequences with
/// max_chunk tokens in flight among them, everything else for full pages. Error: kExhausted when
/// not even one sequence of one chunk fits.
Result<KvCacheOptions> plan_kv_cache(const KvCacheCost& cost, std::int64_t bytes,
                                     std::int64_t max_sequences, std::int64_t max_chunk);

/// Keys and values of every open sequence, in pages.
///
/// Sliding layers keep the last window - 1 positions plus what the step adds; a page that has left
/// the window goes back to the pool at advance(). Full layers keep everything. Layers that reuse
/// another layer's keys and values own no storage: layer(i) answers with their source's. A page is
/// shared by sequences that fork() from each other and freed with the last of them.
///
/// Order of a step: reserve(), the forward pass, advance(). One thread.
class KvCache {
 public:
  /// Storage in the ops' activation dtype. Errors: kExhausted (memory), kInvalidArgument (no page
  /// at all).
  static Result<std::unique_ptr<KvCache>> create(const TextConfig& config, Ops& ops,
                                                 const KvCacheOptions& options);

  CacheSeq open();
  void close(CacheSeq seq);

  /// A new sequence that begins with the first `length` positions of `from`, sharing its pages.
  /// `length` is a multiple of KvLayer::kPageTokens. Error: kNotFound when `from` is shorter or its
  /// sliding layers no longer hold the window before `length`.
  Result<CacheSeq> fork(CacheSeq from, std::int64_t length);
  bool can_fork(CacheSeq from, std::int64_t length) const;

  /// Makes room for n_tokens beyond length(seq). Asking twice is the same as asking once. Error:
  /// kExhausted, and nothing changed.
  Status reserve(CacheSeq seq, std::int64_t n_tokens);

  /// n_tokens that were reserved are now written: length grows, pages that left the window are
  /// freed. `ends_in_block`: the last of them is an image token, so the next chunk may not begin
  /// with one.
  void advance(CacheSeq seq, std::int64_t n_tokens, bool ends_in_block = false);
  bool has_open_block(CacheSeq seq) const;

  bool is_open(CacheSeq seq) const;
  std::int64_t length(CacheSeq seq) const;
  /// The page table of a sequence: entry p / kPageTokens for position p; -1 for pages that left the
  /// window.
  std::span<const std::int32_t> pages(CacheSeq seq, CacheGroup group) const;

  std::int64_t total_pages(CacheGroup group) const;
  std::int64_t free_pages(CacheGroup group) const;
  std::int64_t used_pages(CacheGroup group) const { return total_pages(group) - free_pages(group); }
  /// Pages reserve(seq, n_tokens) would take now.
  std::int64_t pages_needed(CacheSeq seq, std::int64_t n_tokens, CacheGroup group) const;

  /// Storage that layer i reads (its own, or its source's). Data null: not among the layers of the
  /// options.
  const KvLayer& layer(std::int32_t i) const { return layers_[static_cast<std::size_t>(i)]; }
  CacheGroup group(std::int32_t i) const { return groups_[static_cast<std::size_t>(i)]; }

 private:
  struct Pool {
    std::vector<std::int32_t> references;  ///< [pages], 0: free
    std::vector<std::int32_t> free;        ///< a stack
  };
  struct Sequence {
    bool is_open = false;
    bool open_block = false;
    std::int64_t length = 0;
    std::int64_t first_held = 0;  ///< sliding pages before this entry have been freed
    std::vector<std::int32_t> pages[2];
  };

  KvCache() = default;
  Sequence& at(CacheSeq seq) { return sequences_[static_cast<std::size_t>(seq)]; }
  const Sequence& at(CacheSeq seq) const { return sequences_[static_cast<std::size_t>(seq)]; }
  void release(CacheGroup group, std::int32_t page);
  void release_old(Sequence& sequence);

  std::vector<KvLayer> layers_;     ///< [layers]
  std::vector<CacheGroup> groups_;  ///< [layers]
  std::vector<Buffer> storage_;
  Pool pools_[2];
  std::vector<Sequence> sequences_;
  std::vector<std::int32_t> closed_;  ///< free entries of sequences_
  std::int64_t window_ = 0;
  std::int64_t max_positions_ = 0;
};

}  // namespace gem8
