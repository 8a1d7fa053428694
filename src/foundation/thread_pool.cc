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

constexpr std::uint64_t kNextLoop = std::uint64_t{1} << 32;

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
    cursor_.fetch_add(kNextLoop);
  }
  wake_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void ThreadPool::run(std::size_t n_items, void* body, Call call) {
  GEM8_CHECK(n_items < kNextLoop);
  n_items_ = n_items;
  body_ = body;
  call_ = call;
  done_.store(0, std::memory_order_relaxed);
  // Sequentially consistent with sleepers_: a worker sees the loop or we see it asleep.
  cursor_.store((std::uint64_t{loop_number()} + 1) * kNextLoop + n_items);
  if (sleepers_.load() != 0) {
    const std::lock_guard lock(mutex_);
    wake_.notify_all();
  }
  const std::size_t others = n_items - drain(0);
  for (int spins = 0; done_.load(std::memory_order_acquire) != others; ++spins) {
    if (spins < kSpins) {
      pause();
    } else {
      std::this_thread::yield();  // fewer cores than threads: let the worker finish
    }
  }
}

std::size_t ThreadPool::drain(std::size_t thread) {
  std::size_t n_run = 0;
  std::uint64_t cursor = cursor_.load(std::memory_order_acquire);
  while (const std::size_t left = cursor % kNextLoop) {
    if (!cursor_.compare_exchange_weak(cursor, cursor - 1, std::memory_order_acquire)) continue;
    call_(body_, n_items_ - left, thread);
    ++n_run;
    cursor = cursor_.load(std::memory_order_acquire);
  }
  return n_run;
}

void ThreadPool::work(std::size_t thread) {
  std::uint32_t seen = 0;
  for (;;) {
    for (int spins = 0; spins < kSpins && loop_number() == seen; ++spins) pause();
    if (loop_number() == seen) {
      std::unique_lock lock(mutex_);
      sleepers_.fetch_add(1);
      wake_.wait(lock, [&] { return loop_number() != seen; });
      sleepers_.fetch_sub(1);
    }
    seen = loop_number();
    if (stop_.load()) return;
    // The caller waits for these: it cannot begin another loop before they are counted.
    if (const std::size_t n_run = drain(thread)) done_.fetch_add(n_run, std::memory_order_release);
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
