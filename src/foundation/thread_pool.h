#pragma once

#include <atomic>
#include <condition_variable>
#include <cstddef>
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
  /// handed out one by one, so a slow thread delays nobody; results must not depend on which thread
  /// runs an item. Returns when all are done. Allocates nothing.
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
  void drain(std::size_t thread);

  std::vector<std::thread> workers_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::atomic<std::uint64_t> generation_{0};  // a new loop, or the end, has been announced
  std::atomic<bool> stop_{false};
  std::atomic<std::size_t> next_{0};
  std::atomic<std::size_t> busy_{0};  // workers that have not left the current loop
  std::atomic<int> sleepers_{0};
  std::size_t n_items_ = 0;
  void* body_ = nullptr;
  Call call_ = nullptr;
};

/// Physical cores this process may run on (its affinity mask, SMT siblings counted once); at
/// least 1.
std::size_t available_cores();

}  // namespace gem8
