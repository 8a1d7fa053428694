#include "model/kv_cache.h"

#include <algorithm>

#include "formats/model_config.h"
#include "foundation/check.h"
#include "model/rope.h"

namespace gem8 {
namespace {

constexpr std::int64_t kPage = KvLayer::kPageTokens;

std::int64_t pages_for(std::int64_t n_tokens) {
  return (n_tokens + kPage - 1) / kPage;
}

std::size_t index(CacheGroup group) {
  return static_cast<std::size_t>(group);
}

/// The layer's geometry, without storage.
KvLayer describe(const TextConfig& config, std::int32_t i, DType dtype) {
  const LayerConfig& layer = config.layers[static_cast<std::size_t>(i)];
  KvLayer kv{.dtype = dtype, .kv_heads = layer.n_kv_heads, .head_dim = layer.head_dim};
  kv.k_in_v = !layer.has_v;
  kv.k_lanes = kv.k_in_v ? 2 * rotated_pairs(config.rope_full, layer.head_dim) : kv.head_dim;
  return kv;
}

std::int64_t page_bytes(const KvLayer& kv, std::int64_t lanes) {
  return kv.kv_heads * kPage * lanes * static_cast<std::int64_t>(dtype_bytes(kv.dtype));
}

CacheGroup group_of(const TextConfig& config, std::int32_t i) {
  return config.layers[static_cast<std::size_t>(i)].full ? CacheGroup::kFull : CacheGroup::kSliding;
}

}  // namespace

std::int64_t KvCacheCost::sliding_pages(std::int64_t n_tokens, std::int64_t max_chunk) const {
  // window - 1 + chunk consecutive positions touch one page more than they fill when they begin at
  // the last slot of a page.
  const std::int64_t held = window - 1 + max_chunk;
  return std::min(pages_for(n_tokens), (held + kPage - 2) / kPage + 1);
}

std::int64_t KvCacheCost::full_pages(std::int64_t n_tokens) const {
  return pages_for(n_tokens);
}

KvCacheCost kv_cache_cost(const TextConfig& config, DType dtype) {
  KvCacheCost cost{.window = config.sliding_window};
  for (std::int32_t i = 0; i < config.n_layers; ++i) {
    if (config.layers[static_cast<std::size_t>(i)].kv_shared) continue;
    const KvLayer kv = describe(config, i, dtype);
    auto& bytes =
        group_of(config, i) == CacheGroup::kFull ? cost.full_page_bytes : cost.sliding_page_bytes;
    bytes += page_bytes(kv, kv.head_dim) + page_bytes(kv, kv.k_lanes);
  }
  return cost;
}

Result<KvCacheOptions> plan_kv_cache(const KvCacheCost& cost, std::int64_t bytes,
                                     std::int64_t max_sequences, std::int64_t max_chunk) {
  if (max_sequences < 1 || max_chunk < 1) {
    return fail(Code::kInvalidArgument,
                "a cache for {} sequences and steps of {} tokens, want 1 or more", max_sequences,
                max_chunk);
  }
  // The chunk in flight is divided among the sequences: each adds at most one partly filled page of
  // it.
  const auto sliding_pages = [&](std::int64_t sequences) {
    return sequences * ((cost.window - 1 + kPage - 2) / kPage + 2) + pages_for(max_chunk);
  };
  const std::int64_t least_full = pages_for(max_chunk);
  std::int64_t sequences = max_sequences;
  // Fewer sequences than asked for rather than no room for their past: sliding layers get at most
  // half.
  while (sequences > 1 && sliding_pages(sequences) * cost.sliding_page_bytes > bytes / 2)
    --sequences;
  KvCacheOptions options{.sliding_pages = sliding_pages(sequences)};
  const std::int64_t left = bytes - options.sliding_pages * cost.sliding_page_bytes;
  options.full_pages = cost.full_page_bytes == 0 ? least_full : left / cost.full_page_bytes;
  if (left < 0 || options.full_pages < least_full) {
    return fail(Code::kExhausted, "a cache of {} bytes, one sequence of {} tokens needs {}", bytes,
                max_chunk,
                sliding_pages(1) * cost.sliding_page_bytes + least_full * cost.full_page_bytes);
  }
  return options;
}

Result<std::unique_ptr<KvCache>> KvCache::create(const TextConfig& config, Ops& ops,
                                                 const KvCacheOptions& options) {
  if (options.sliding_pages < 1 || options.full_pages < 1) {
    return fail(Code::kInvalidArgument,
                "a cache of {} sliding and {} full pages, want 1 or more of each",
                options.sliding_pages, options.full_pages);
  }
  std::unique_ptr<KvCache> cache(new KvCache());
  cache->window_ = config.sliding_window;
  cache->max_positions_ = config.max_position_embeddings;
  for (std::int32_t i = 0; i < config.n_layers; ++i) {
    const LayerConfig& layer = config.layers[static_cast<std::size_t>(i)];
    cache->groups_.push_back(group_of(config, i));
    if (layer.kv_shared) {  // a source precedes the layers that read it
      cache->layers_.push_back(cache->layers_[static_cast<std::size_t>(layer.kv_source)]);
      continue;
    }
    KvLayer kv = describe(config, i, ops.activation_dtype());
    if (options.layers.empty() || std::ranges::find(options.layers, i) != options.layers.end()) {
      const std::int64_t pages = layer.full ? options.full_pages : options.sliding_pages;
      const auto allocate = [&](std::int64_t lanes) -> Result<void*> {
        if (lanes == 0) return nullptr;  // k_in_v without a rotated lane
        GEM8_TRY(Buffer buffer,
                 ops.device().allocate(static_cast<std::size_t>(pages * page_bytes(kv, lanes))));
        void* address = buffer.address();
        cache->storage_.push_back(std::move(buffer));
        return address;
      };
      GEM8_TRY(kv.v, allocate(kv.head_dim));
      GEM8_TRY(kv.k, allocate(kv.k_lanes));
    }
    cache->layers_.push_back(kv);
  }
  for (const CacheGroup group : {CacheGroup::kSliding, CacheGroup::kFull}) {
    const std::int64_t pages =
        group == CacheGroup::kFull ? options.full_pages : options.sliding_pages;
    Pool& pool = cache->pools_[index(group)];
    pool.references.assign(static_cast<std::size_t>(pages), 0);
    for (std::int64_t page = pages - 1; page >= 0; --page) {
      pool.free.push_back(static_cast<std::int32_t>(page));
    }
  }
  return cache;
}

CacheSeq KvCache::open() {
  if (closed_.empty()) {
    closed_.push_back(static_cast<std::int32_t>(sequences_.size()));
    sequences_.emplace_back();
    // Room for the longest sequence, so that no step grows a table.
    for (auto& table : sequences_.back().pages) {
      table.reserve(static_cast<std::size_t>(pages_for(max_positions_)));
    }
  }
  const CacheSeq seq{closed_.back()};
  closed_.pop_back();
  at(seq).is_open = true;
  return seq;
}

void KvCache::release(CacheGroup group, std::int32_t page) {
  Pool& pool = pools_[index(group)];
  auto& references = pool.references[static_cast<std::size_t>(page)];
  GEM8_CHECK(references > 0);
  if (--references == 0) pool.free.push_back(page);
}

void KvCache::close(CacheSeq seq) {
  Sequence& sequence = at(seq);
  GEM8_CHECK(sequence.is_open);
  for (const CacheGroup group : {CacheGroup::kSliding, CacheGroup::kFull}) {
    auto& table = sequence.pages[index(group)];
    for (const std::int32_t page : table) {
      if (page >= 0) release(group, page);
    }
    table.clear();
  }
  sequence.is_open = false;
  sequence.length = 0;
  sequence.first_held = 0;
  sequence.open_block = false;
  closed_.push_back(static_cast<std::int32_t>(seq));
}

bool KvCache::can_fork(CacheSeq from, std::int64_t length) const {
  const Sequence& source = at(from);
  if (length < 0 || length % kPage != 0 || length > source.length) return false;
  const std::int64_t first_read = std::max<std::int64_t>(0, length - window_ + 1);
  return length == 0 || first_read / kPage >= source.first_held;
}

Result<CacheSeq> KvCache::fork(CacheSeq from, std::int64_t length) {
  if (!can_fork(from, length)) {
    return fail(Code::kNotFound, "a prefix of {} tokens is not in the cache (the sequence has {})",
                length, at(from).length);
  }
  const CacheSeq seq = open();  // may move the sequences
  Sequence& sequence = at(seq);
  const Sequence& source = at(from);
  const auto pages = static_cast<std::size_t>(length / kPage);
  for (const CacheGroup group : {CacheGroup::kSliding, CacheGroup::kFull}) {
    const auto& table = source.pages[index(group)];
    for (std::size_t i = 0; i < pages; ++i) {
      const std::int32_t page = table[i];
      if (page >= 0) ++pools_[index(group)].references[static_cast<std::size_t>(page)];
      sequence.pages[index(group)].push_back(page);
    }
  }
  sequence.length = length;
  sequence.first_held = std::min(source.first_held, length / kPage);
  release_old(sequence);
  return seq;
}

std::int64_t KvCache::pages_needed(CacheSeq seq, std::int64_t n_tokens, CacheGroup group) const {
  const Sequence& sequence = at(seq);
  const auto held = static_cast<std::int64_t>(sequence.pages[index(group)].size());
  return std::max<std::int64_t>(0, pages_for(sequence.length + n_tokens) - held);
}

Status KvCache::reserve(CacheSeq seq, std::int64_t n_tokens) {
  Sequence& sequence = at(seq);
  GEM8_CHECK(sequence.is_open);
  if (n_tokens < 0 || n_tokens > max_positions_ - sequence.length) {
    return fail(Code::kInvalidArgument, "{} tokens after {}, the model has {} positions", n_tokens,
                sequence.length, max_positions_);
  }
  for (const CacheGroup group : {CacheGroup::kSliding, CacheGroup::kFull}) {
    if (const std::int64_t needed = pages_needed(seq, n_tokens, group);
        needed > free_pages(group)) {
      return fail(Code::kExhausted, "{} {} cache pages needed, {} of {} are free", needed,
                  group == CacheGroup::kFull ? "full" : "sliding", free_pages(group),
                  total_pages(group));
    }
  }
  for (const CacheGroup group : {CacheGroup::kSliding, CacheGroup::kFull}) {
    Pool& pool = pools_[index(group)];
    for (std::int64_t n = pages_needed(seq, n_tokens, group); n > 0; --n) {
      const std::int32_t page = pool.free.back();
      pool.free.pop_back();
      pool.references[static_cast<std::size_t>(page)] = 1;
      sequence.pages[index(group)].push_back(page);
    }
  }
  return {};
}

void KvCache::advance(CacheSeq seq, std::int64_t n_tokens, bool ends_in_block) {
  Sequence& sequence = at(seq);
  GEM8_CHECK(sequence.is_open &&
             pages_for(sequence.length + n_tokens) <=
                 static_cast<std::int64_t>(sequence.pages[index(CacheGroup::kFull)].size()));
  sequence.length += n_tokens;
  sequence.open_block = ends_in_block;
  release_old(sequence);
}

void KvCache::release_old(Sequence& sequence) {
  // The next query stands at `length` and reads keys above length - window.
  const std::int64_t first_read = std::max<std::int64_t>(0, sequence.length - window_ + 1);
  auto& table = sequence.pages[index(CacheGroup::kSliding)];
  const std::int64_t end = std::min(first_read / kPage, static_cast<std::int64_t>(table.size()));
  for (; sequence.first_held < end; ++sequence.first_held) {
    std::int32_t& page = table[static_cast<std::size_t>(sequence.first_held)];
    if (page >= 0) release(CacheGroup::kSliding, page);
    page = -1;
  }
}

std::int64_t KvCache::length(CacheSeq seq) const {
  return at(seq).length;
}

bool KvCache::has_open_block(CacheSeq seq) const {
  return at(seq).open_block;
}

bool KvCache::is_open(CacheSeq seq) const {
  const auto i = static_cast<std::size_t>(seq);
  return i < sequences_.size() && sequences_[i].is_open;
}

std::span<const std::int32_t> KvCache::pages(CacheSeq seq, CacheGroup group) const {
  return at(seq).pages[index(group)];
}

std::int64_t KvCache::total_pages(CacheGroup group) const {
  return static_cast<std::int64_t>(pools_[index(group)].references.size());
}

std::int64_t KvCache::free_pages(CacheGroup group) const {
  return static_cast<std::int64_t>(pools_[index(group)].free.size());
}

}  // namespace gem8
