#pragma once

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace gem8 {

/// A fixed set of threads that run one parallel loop at a time; the caller's thread takes part.
/// Passed in by context, never global.
///
/// parallel_for() may be called from one thread at a time and not from inside a loop body. Bodies
/// must not throw.
class ThreadPool {
 public:
  /// `n_threads` >= 1 counts the caller: n_threads - 1 threads are started.
  explicit ThreadPool(std::size_t n_threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  std::size_t size() const { return workers_.size() + 1; }

  /// Calls body(item, thread) once for each item in [0, n_items), thread in [0, size()). Items are
  /// handed out one by one, so a slow thread delays nobody, and one that the system does not run is
  /// not waited for; results must not depend on which thread runs an item. Returns when all are
  /// done. Allocates nothing. n_items is below 2^32.
  template <class Body>
  void parallel_for(std::size_t n_items, Body&& body) {
    if (n_items == 0) return;
    if (n_items == 1 || workers_.empty()) {
      for (std::size_t item = 0; item < n_items; ++item) body(item, std::size_t{0});
      return;
    }
    run(n_items, &body, [](void* erased, std::size_t item, std::size_t thread) {
      (*static_cast<std::remove_reference_t<Body>*>(erased))(item, thread);
    });
  }

 private:
  using Call = void (*)(void* body, std::size_t item, std::size_t thread);

  void run(std::size_t n_items, void* body, Call call);
  void work(std::size_t thread);
  /// Runs items until none is left to take; how many it ran.
  std::size_t drain(std::size_t thread);
  std::uint32_t loop_number() const { return static_cast<std::uint32_t>(cursor_.load() >> 32); }

  std::vector<std::thread> workers_;
  std::mutex mutex_;
  std::condition_variable wake_;
  // The loop's number in the upper half, how many of its items nobody has taken in the lower. Who
  // takes an item keeps the loop alive until it is done, and only then reads the members below.
  std::atomic<std::uint64_t> cursor_{0};
  std::atomic<std::size_t> done_{0};  // items that workers have finished
  std::atomic<bool> stop_{false};
  std::atomic<int> sleepers_{0};
  std::size_t n_items_ = 0;
  void* body_ = nullptr;
  Call call_ = nullptr;
};

/// Physical cores this process may run on (its affinity mask, SMT siblings counted once); at
/// least 1.
std::size_t available_cores();

}  // namespace gem8
