#include "foundation/lru_cache.h"

#include <gtest/gtest.h>

namespace gem8 {
namespace {

std::shared_ptr<int> value(int x) {
  return std::make_shared<int>(x);
}

TEST(LruCache, KeepsTheMostRecentlyAskedFor) {
  LruCache<int> cache(10);
  cache.insert("a", value(1), 4);
  cache.insert("b", value(2), 4);
  ASSERT_NE(cache.find("a"), nullptr);
  cache.insert("c", value(3), 4);
  EXPECT_EQ(cache.find("b"), nullptr);
  EXPECT_EQ(*cache.find("a"), 1);
  EXPECT_EQ(*cache.find("c"), 3);
  EXPECT_EQ(cache.bytes(), 8u);
}

TEST(LruCache, NeverHoldsMoreThanItsRoom) {
  LruCache<int> cache(10);
  for (int i = 0; i < 100; ++i) {
    cache.insert(std::to_string(i), value(i), static_cast<std::size_t>(i % 13));
    EXPECT_LE(cache.bytes(), 10u);
  }
  cache.insert("whole", value(1), 10);
  EXPECT_EQ(cache.size(), 1u);
  cache.insert("too large", value(1), 11);
  EXPECT_EQ(cache.find("too large"), nullptr);
  EXPECT_NE(cache.find("whole"), nullptr);
}

TEST(LruCache, AnEntryInUseOutlivesItsPlace) {
  LruCache<int> cache(1);
  cache.insert("a", value(1), 1);
  const auto held = cache.find("a");
  cache.insert("b", value(2), 1);
  EXPECT_EQ(cache.find("a"), nullptr);
  EXPECT_EQ(*held, 1);
}

TEST(LruCache, TheFirstOfAKeyStays) {
  LruCache<int> cache(2);
  cache.insert("a", value(1), 1);
  cache.insert("a", value(2), 1);
  EXPECT_EQ(*cache.find("a"), 1);
  EXPECT_EQ(cache.bytes(), 1u);
}

}  // namespace
}  // namespace gem8
