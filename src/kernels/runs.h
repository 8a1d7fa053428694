#pragma once

#include <atomic>
#include <cstdint>
#include <vector>

#include "foundation/thread_pool.h"

namespace gem8 {

/// A parallel loop whose threads each go through a run of consecutive items: memory is then read in
/// as many long streams as there are threads, and a thread knows what it will read next. Whoever
/// has finished its own run takes items from the end of another's, so a slow thread delays nobody.
class Runs {
 public:
  explicit Runs(ThreadPool& pool) : pool_(pool), runs_(pool.size()) {}

  /// Calls body(item, thread, next) once for each item in [0, n_items); `next` is the item that
  /// this thread will take after it if nobody else does, or -1. n_items < 2^31. Rules and
  /// guarantees as ThreadPool::parallel_for.
  template <class Body>
  void parallel_for(std::int64_t n_items, Body&& body) {
    const auto threads = static_cast<std::int64_t>(runs_.size());
    for (std::int64_t t = 0; t < threads; ++t) {
      runs_[static_cast<std::size_t>(t)].left.store(
          pack(n_items * t / threads, n_items * (t + 1) / threads), std::memory_order_relaxed);
    }
    // As many turns as items, and each turn takes one.
    pool_.parallel_for(static_cast<std::size_t>(n_items), [&](std::size_t, std::size_t thread) {
      const Taken taken = take(thread);
      body(taken.item, thread, taken.next);
    });
  }

 private:
  struct Taken {
    std::int64_t item;
    std::int64_t next;
  };
  /// What is left of a thread's run: the first item in the upper half, the end in the lower.
  struct alignas(64) Run {
    std::atomic<std::uint64_t> left{0};
  };

  static std::uint64_t pack(std::int64_t begin, std::int64_t end) {
    return static_cast<std::uint64_t>(begin) << 32 | static_cast<std::uint64_t>(end);
  }

  Taken take(std::size_t thread) {
    for (std::size_t i = 0;; ++i) {
      // A run never grows again, so a turn that finds its own empty finds an item in another.
      std::atomic<std::uint64_t>& left = runs_[(thread + i) % runs_.size()].left;
      std::uint64_t seen = left.load(std::memory_order_relaxed);
      for (;;) {
        const auto begin = static_cast<std::int64_t>(seen >> 32);
        const auto end = static_cast<std::int64_t>(seen & 0xffffffffu);
        if (begin == end) break;
        const bool own = i == 0;
        if (left.compare_exchange_weak(seen, own ? pack(begin + 1, end) : pack(begin, end - 1),
                                       std::memory_order_relaxed)) {
          if (own) return {begin, begin + 1 < end ? begin + 1 : -1};
          return {end - 1, -1};
        }
      }
    }
  }

  ThreadPool& pool_;
  std::vector<Run> runs_;
};

}  // namespace gem8
