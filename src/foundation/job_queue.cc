#include "foundation/job_queue.h"

#include <utility>

namespace gem8 {

JobQueue::JobQueue(std::size_t n_threads) {
  for (std::size_t i = 0; i < n_threads; ++i) {
    threads_.emplace_back([this](std::stop_token stop) { work(stop); });
  }
}

JobQueue::~JobQueue() {
  for (std::jthread& thread : threads_) thread.request_stop();
  threads_.clear();  // joins
  for (Job& job : jobs_) job(fail(Code::kCancelled, "the server is shutting down"));
}

void JobQueue::submit(Job job) {
  {
    const std::lock_guard lock(mutex_);
    jobs_.push_back(std::move(job));
  }
  arrived_.notify_one();
}

void JobQueue::work(std::stop_token stop) {
  for (;;) {
    Job job;
    {
      std::unique_lock lock(mutex_);
      if (!arrived_.wait(lock, stop, [this] { return !jobs_.empty(); }) || stop.stop_requested())
        return;
      job = std::move(jobs_.front());
      jobs_.pop_front();
    }
    job({});
  }
}

}  // namespace gem8
