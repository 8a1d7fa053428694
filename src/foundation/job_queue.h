#pragma once

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include "foundation/result.h"

namespace gem8 {

/// Threads of their own for jobs that would hold others up, because they block or take long. First
/// come, first served, as many at a time as there are threads.
class JobQueue {
 public:
  /// Called once: with ok, on one of the threads, to be done; or with kCancelled, because the queue
  /// ends, to tell whoever waits for it.
  using Job = std::function<void(const Status& go)>;

  explicit JobQueue(std::size_t n_threads);
  /// Waits for the jobs in work; those that wait are cancelled.
  ~JobQueue();

  /// From any thread.
  void submit(Job job);

 private:
  void work(std::stop_token stop);

  std::mutex mutex_;
  std::condition_variable_any arrived_;
  std::deque<Job> jobs_;               // under mutex_
  std::vector<std::jthread> threads_;  // last: they use everything above
};

}  // namespace gem8
