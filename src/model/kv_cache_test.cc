#include "model/kv_cache.h"

#include <gtest/gtest.h>

#include <random>

#include "formats/model_config.h"

namespace gem8 {
namespace {

constexpr std::int64_t kPage = KvLayer::kPageTokens;

/// Two sliding layers, a full one with K in V, and a sliding layer that shares the second's keys
/// and values.
TextConfig config_of(int window) {
  TextConfig config;
  config.n_layers = 4;
  config.sliding_window = window;
  config.max_position_embeddings = 4096;
  const LayerConfig sliding{.full = false, .head_dim = 16, .n_kv_heads = 2};
  config.layers = {sliding,
                   sliding,
                   {.full = true, .head_dim = 32, .n_kv_heads = 1, .has_v = false, .kv_source = 2},
                   sliding};
  config.layers[1].kv_source = 1;
  config.layers[3].kv_shared = true;
  config.layers[3].kv_source = 1;
  return config;
}

class KvCacheTest : public ::testing::Test {
 protected:
  std::unique_ptr<KvCache> make(int window, std::int64_t sliding_pages, std::int64_t full_pages,
                                std::span<const std::int32_t> layers = {}) {
    auto cache = KvCache::create(config_of(window), *ops_, {sliding_pages, full_pages, layers});
    EXPECT_TRUE(cache) << cache.error().text();
    return cache ? std::move(*cache) : nullptr;
  }

  std::unique_ptr<Device> device_ = make_cpu_device();
  ThreadPool pool_{1};
  std::unique_ptr<Ops> ops_ = *make_cpu_ops(*device_, pool_, {.activation_dtype = DType::kF32});
};

TEST_F(KvCacheTest, StorageFollowsTheLayers) {
  const auto cache = make(8, 4, 4);
  EXPECT_EQ(cache->layer(0).k_lanes, 16);
  EXPECT_TRUE(cache->layer(2).k_in_v);
  EXPECT_EQ(cache->layer(2).k_lanes, 8);  // a quarter of 32 lanes rotates
  EXPECT_EQ(cache->layer(3).k, cache->layer(1).k);
  EXPECT_NE(cache->layer(1).k, cache->layer(0).k);
  EXPECT_EQ(cache->group(2), CacheGroup::kFull);
  EXPECT_EQ(cache->group(3), CacheGroup::kSliding);
}

TEST_F(KvCacheTest, OnlyTheLayersAskedForGetStorage) {
  const std::int32_t one[] = {1};
  const auto cache = make(8, 4, 4, one);
  EXPECT_EQ(cache->layer(0).v, nullptr);
  EXPECT_NE(cache->layer(1).v, nullptr);
  EXPECT_EQ(cache->layer(2).v, nullptr);
  EXPECT_EQ(cache->layer(3).v, cache->layer(1).v);
}

TEST_F(KvCacheTest, CostIsWhatALayerStores) {
  const KvCacheCost cost = kv_cache_cost(config_of(8), DType::kBF16);
  EXPECT_EQ(cost.sliding_page_bytes, 2 * (2 * kPage * 16 * 2) * 2);  // two layers, keys and values
  EXPECT_EQ(cost.full_page_bytes, kPage * (32 + 8) * 2);
}

TEST_F(KvCacheTest, PagesThatLeftTheWindowAreFreedAndNoOthers) {
  const std::int64_t window = 40;
  const auto cache = make(static_cast<int>(window), 16, 64);
  const CacheSeq seq = cache->open();
  for (std::int64_t length = 0; length < 400; ++length) {
    ASSERT_TRUE(cache->reserve(seq, 1));
    const auto table = cache->pages(seq, CacheGroup::kSliding);
    for (std::int64_t k = 0; k <= length; ++k) {
      // What the query at `length` reads is there; a page none of whose keys it or any later one
      // reads is not.
      if (k > length - window) {
        ASSERT_GE(table[static_cast<std::size_t>(k / kPage)], 0) << k << " of " << length;
      }
      if ((k / kPage + 1) * kPage <= length - window + 1) {
        ASSERT_EQ(table[static_cast<std::size_t>(k / kPage)], -1) << k << " of " << length;
      }
    }
    cache->advance(seq, 1);
    EXPECT_LE(cache->used_pages(CacheGroup::kSliding), 3);
  }
  EXPECT_EQ(cache->used_pages(CacheGroup::kFull), 13);
  cache->close(seq);
  EXPECT_EQ(cache->used_pages(CacheGroup::kFull), 0);
  EXPECT_EQ(cache->used_pages(CacheGroup::kSliding), 0);
}

TEST_F(KvCacheTest, TheWindowWaitsForTheChunkInFlight) {
  const auto cache = make(8, 16, 16);
  const CacheSeq seq = cache->open();
  ASSERT_TRUE(cache->reserve(seq, 200));
  for (const std::int32_t page : cache->pages(seq, CacheGroup::kSliding)) EXPECT_GE(page, 0);
  EXPECT_EQ(cache->used_pages(CacheGroup::kSliding), 7);
  cache->advance(seq, 200);
  EXPECT_EQ(cache->used_pages(CacheGroup::kSliding), 1);
}

TEST_F(KvCacheTest, ReserveIsIdempotentAndChangesNothingWhenItFails) {
  const auto cache = make(8, 4, 3);
  const CacheSeq seq = cache->open();
  ASSERT_TRUE(cache->reserve(seq, 40));
  ASSERT_TRUE(cache->reserve(seq, 40));
  EXPECT_EQ(cache->used_pages(CacheGroup::kFull), 2);
  const Status status = cache->reserve(seq, 4 * kPage);
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().code, Code::kExhausted);
  EXPECT_EQ(cache->used_pages(CacheGroup::kFull), 2);
  EXPECT_EQ(cache->used_pages(CacheGroup::kSliding), 2);
  EXPECT_EQ(cache->pages_needed(seq, 4 * kPage, CacheGroup::kFull), 2);
}

TEST_F(KvCacheTest, MorePositionsThanTheModelHasAreRefused) {
  const auto cache = make(8, 4, 3);
  const Status status = cache->reserve(cache->open(), 4097);
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().code, Code::kInvalidArgument);
}

TEST_F(KvCacheTest, ForksShareWholePagesUntilTheLastIsClosed) {
  const auto cache = make(8, 8, 8);
  const CacheSeq a = cache->open();
  ASSERT_TRUE(cache->reserve(a, 80));
  EXPECT_FALSE(cache->can_fork(a, 64));  // nothing is written yet
  cache->advance(a, 80);
  EXPECT_FALSE(cache->can_fork(a, 33));  // not a whole page
  EXPECT_FALSE(cache->can_fork(a, 96));  // longer than a
  EXPECT_FALSE(cache->can_fork(a, 32));  // its sliding pages are gone
  EXPECT_FALSE(cache->fork(a, 32));
  // 64 needs positions 57 to 63, in a page that left the window before a reached 80.
  EXPECT_FALSE(cache->can_fork(a, 64));

  const CacheSeq b = cache->open();
  ASSERT_TRUE(cache->reserve(b, 66));
  cache->advance(b, 66);
  ASSERT_TRUE(cache->can_fork(b, 64));
  const auto fork = cache->fork(b, 64);
  ASSERT_TRUE(fork);
  EXPECT_EQ(cache->length(*fork), 64);
  EXPECT_EQ(cache->pages(*fork, CacheGroup::kFull)[0], cache->pages(b, CacheGroup::kFull)[0]);
  const std::int64_t used = cache->used_pages(CacheGroup::kFull);
  ASSERT_TRUE(cache->reserve(*fork, 1));
  EXPECT_NE(cache->pages(*fork, CacheGroup::kFull)[2], cache->pages(b, CacheGroup::kFull)[2]);
  EXPECT_EQ(cache->used_pages(CacheGroup::kFull), used + 1);
  cache->close(b);
  EXPECT_EQ(cache->used_pages(CacheGroup::kFull), used);  // only b's third page came back
  cache->close(*fork);
  cache->close(a);
  EXPECT_EQ(cache->used_pages(CacheGroup::kFull), 0);
  EXPECT_EQ(cache->used_pages(CacheGroup::kSliding), 0);
}

TEST_F(KvCacheTest, NoPageIsEverOwnedTwice) {
  const auto cache = make(20, 64, 64);
  std::mt19937 random(7);
  std::vector<CacheSeq> open;
  for (int turn = 0; turn < 2000; ++turn) {
    const std::uint32_t choice = random() % 10;
    if (open.size() < 4 && choice < 3) {
      open.push_back(cache->open());
    } else if (!open.empty() && choice == 3) {
      const std::size_t i = random() % open.size();
      cache->close(open[i]);
      open.erase(open.begin() + static_cast<std::ptrdiff_t>(i));
    } else if (!open.empty()) {
      const CacheSeq seq = open[random() % open.size()];
      const std::int64_t n = 1 + random() % 50;
      if (cache->reserve(seq, n)) cache->advance(seq, n);
    }
    for (const CacheGroup group : {CacheGroup::kSliding, CacheGroup::kFull}) {
      std::vector<int> owners(64, 0);
      for (const CacheSeq seq : open) {
        for (const std::int32_t page : cache->pages(seq, group)) {
          if (page >= 0) ++owners[static_cast<std::size_t>(page)];
        }
      }
      std::int64_t used = 0;
      for (const int n : owners) {
        ASSERT_LE(n, 1);
        used += n;
      }
      ASSERT_EQ(used, cache->used_pages(group));
    }
  }
}

TEST(KvCachePlan, SlidingPagesHoldEverySequencesWindow) {
  const KvCacheCost cost = kv_cache_cost(config_of(40), DType::kBF16);
  const auto plan = plan_kv_cache(cost, 10'000'000, 4, 64);
  ASSERT_TRUE(plan);
  EXPECT_GE(plan->sliding_pages, 4 * cost.sliding_pages(4096, 16));
  EXPECT_LE(plan->sliding_pages * cost.sliding_page_bytes + plan->full_pages * cost.full_page_bytes,
            10'000'000);
}

TEST(KvCachePlan, TooFewBytesNameWhatIsNeeded) {
  const auto plan = plan_kv_cache(kv_cache_cost(config_of(40), DType::kBF16), 1000, 4, 64);
  ASSERT_FALSE(plan);
  EXPECT_EQ(plan.error().code, Code::kExhausted);
}

}  // namespace
}  // namespace gem8
