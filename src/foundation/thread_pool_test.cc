#include "foundation/thread_pool.h"

#include <gtest/gtest.h>

#include <vector>

namespace gem8 {
namespace {

TEST(ThreadPool, RunsEveryItemOnceForAnySize) {
  for (const std::size_t n_threads : {1, 2, 3, 8}) {
    ThreadPool pool(n_threads);
    for (const std::size_t n_items : {0, 1, 2, 7, 1000}) {
      std::vector<std::atomic<int>> hits(n_items);
      pool.parallel_for(n_items, [&](std::size_t item, std::size_t thread) {
        ASSERT_LT(thread, n_threads);
        hits[item].fetch_add(1);
      });
      for (const auto& hit : hits) EXPECT_EQ(hit.load(), 1);
    }
  }
}

TEST(ThreadPool, ManyShortLoopsLoseNoWakeUp) {
  ThreadPool pool(4);
  std::atomic<std::size_t> total{0};
  for (int loop = 0; loop < 20000; ++loop) {
    pool.parallel_for(
        5, [&](std::size_t, std::size_t) { total.fetch_add(1, std::memory_order_relaxed); });
    if (loop % 1000 == 0) std::this_thread::yield();
  }
  EXPECT_EQ(total.load(), 100000u);
}

TEST(ThreadPool, LoopsOfChangingLengthSeeTheirOwnBody) {
  ThreadPool pool(3);
  for (std::size_t loop = 1; loop <= 5000; ++loop) {
    const std::size_t n_items = 2 + loop % 7;
    std::size_t marks[9] = {};  // of this loop alone, and gone after it
    pool.parallel_for(n_items,
                      [&marks, loop](std::size_t item, std::size_t) { marks[item] += loop; });
    for (std::size_t item = 0; item < 9; ++item) ASSERT_EQ(marks[item], item < n_items ? loop : 0);
  }
}

TEST(ThreadPool, CountsAtLeastOneCore) {
  EXPECT_GE(available_cores(), 1u);
}

}  // namespace
}  // namespace gem8
