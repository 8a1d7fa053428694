#include "foundation/thread_pool.h"

#include <sched.h>

#include <fstream>
#include <set>
#include <string>
#include <utility>

#include "foundation/check.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace gem8 {
namespace {

// A decode step runs some hundred loops of tens of microseconds. Waking a sleeping thread costs
// about as much as such a loop, so workers spin this many pauses (about 50 us) for the next one
// before they sleep.
constexpr int kSpins = 2000;

void pause() {
#if defined(__x86_64__)
  _mm_pause();
#else
  std::this_thread::yield();
#endif
}

}  // namespace

ThreadPool::ThreadPool(std::size_t n_threads) {
  GEM8_CHECK(n_threads >= 1);
  for (std::size_t thread = 1; thread < n_threads; ++thread) {
    workers_.emplace_back([this, thread] { work(thread); });
  }
}

ThreadPool::~ThreadPool() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
    generation_.fetch_add(1);
  }
  wake_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void ThreadPool::run(std::size_t n_items, void* body, Call call) {
  n_items_ = n_items;
  body_ = body;
  call_ = call;
  next_.store(0, std::memory_order_relaxed);
  busy_.store(workers_.size(), std::memory_order_relaxed);
  generation_.fetch_add(
      1);  // sequentially consistent with sleepers_: a worker sees the loop or we see it asleep
  if (sleepers_.load() != 0) {
    const std::lock_guard lock(mutex_);
    wake_.notify_all();
  }
  drain(0);
  for (int spins = 0; busy_.load(std::memory_order_acquire) != 0; ++spins) {
    if (spins < kSpins) {
      pause();
    } else {
      std::this_thread::yield();  // fewer cores than threads: let the worker finish
    }
  }
}

void ThreadPool::drain(std::size_t thread) {
  for (;;) {
    const std::size_t item = next_.fetch_add(1, std::memory_order_relaxed);
    if (item >= n_items_) return;
    call_(body_, item, thread);
  }
}

void ThreadPool::work(std::size_t thread) {
  std::uint64_t seen = 0;
  for (;;) {
    for (int spins = 0; spins < kSpins && generation_.load(std::memory_order_acquire) == seen;
         ++spins)
      pause();
    if (generation_.load(std::memory_order_acquire) == seen) {
      std::unique_lock lock(mutex_);
      sleepers_.fetch_add(1);
      wake_.wait(lock, [&] { return generation_.load() != seen; });
      sleepers_.fetch_sub(1);
    }
    seen = generation_.load();
    if (stop_.load()) return;
    drain(thread);
    busy_.fetch_sub(1, std::memory_order_release);
  }
}

std::size_t available_cores() {
  cpu_set_t mask;
  CPU_ZERO(&mask);
  if (sched_getaffinity(0, sizeof mask, &mask) != 0) return 1;
  std::set<std::string> cores;
  std::size_t without_topology = 0;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (!CPU_ISSET(cpu, &mask)) continue;
    std::ifstream file("/sys/devices/system/cpu/cpu" + std::to_string(cpu) +
                       "/topology/thread_siblings_list");
    std::string siblings;
    if (file && std::getline(file, siblings)) {
      cores.insert(siblings);
    } else {
      ++without_topology;
    }
  }
  const std::size_t count = cores.size() + without_topology;
  return count == 0 ? 1 : count;
}

}  // namespace gem8
