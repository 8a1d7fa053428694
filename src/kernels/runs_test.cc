#include "kernels/runs.h"

#include <gtest/gtest.h>

namespace gem8 {
namespace {

TEST(Runs, TakesEveryItemOnceWhateverTheThreads) {
  for (const std::size_t threads : {1u, 2u, 3u, 5u}) {
    ThreadPool pool(threads);
    Runs runs(pool);
    for (const std::int64_t n : {0, 1, 2, 3, 7, 64, 1000}) {
      std::vector<std::atomic<int>> seen(static_cast<std::size_t>(n));
      runs.parallel_for(n, [&](std::int64_t item, std::size_t thread, std::int64_t next) {
        EXPECT_LT(thread, threads);
        EXPECT_TRUE(next == -1 || next == item + 1);
        EXPECT_LT(next, n);
        seen[static_cast<std::size_t>(item)].fetch_add(1);
      });
      for (const auto& count : seen) EXPECT_EQ(count.load(), 1) << threads << " threads, " << n;
    }
  }
}

TEST(Runs, OneThreadGoesInOrderAndKnowsWhatFollows) {
  ThreadPool pool(1);
  Runs runs(pool);
  std::int64_t expected = 0;
  runs.parallel_for(5, [&](std::int64_t item, std::size_t, std::int64_t next) {
    EXPECT_EQ(item, expected++);
    EXPECT_EQ(next, item == 4 ? -1 : item + 1);
  });
  EXPECT_EQ(expected, 5);
}

TEST(Runs, AThreadThatWaitsLosesTheEndOfItsRun) {
  ThreadPool pool(2);
  Runs runs(pool);
  constexpr std::int64_t kItems = 100;
  std::atomic<std::int64_t> done{0};
  // Item 0 is held until all others are done: the other thread has to take them from thread 0's
  // run.
  runs.parallel_for(kItems, [&](std::int64_t item, std::size_t, std::int64_t) {
    if (item == 0) {
      while (done.load() != kItems - 1) std::this_thread::yield();
    } else {
      done.fetch_add(1);
    }
  });
  EXPECT_EQ(done.load(), kItems - 1);
}

}  // namespace
}  // namespace gem8
