#include "server/media/image_service.h"

#include <utility>

namespace gem8 {

ImageService::ImageService(MediaLoader loader, const ImageOptions& options, std::size_t n_threads)
    : preparer_(std::move(loader), options) {
  for (std::size_t i = 0; i < n_threads; ++i) {
    threads_.emplace_back([this](std::stop_token stop) { work(stop); });
  }
}

ImageService::~ImageService() {
  for (std::jthread& thread : threads_) thread.request_stop();
  threads_.clear();  // joins
  for (Job& job : jobs_) job.done(fail(Code::kCancelled, "the server is shutting down"));
}

void ImageService::submit(std::vector<ImageSource> sources, std::optional<int> soft_tokens,
                          Done done) {
  {
    const std::lock_guard lock(mutex_);
    jobs_.push_back({std::move(sources), soft_tokens, std::move(done)});
  }
  arrived_.notify_one();
}

void ImageService::work(std::stop_token stop) {
  for (;;) {
    Job job;
    {
      std::unique_lock lock(mutex_);
      if (!arrived_.wait(lock, stop, [this] { return !jobs_.empty(); }) || stop.stop_requested())
        return;
      job = std::move(jobs_.front());
      jobs_.pop_front();
    }
    job.done(preparer_.prepare(job.sources, job.soft_tokens));
  }
}

}  // namespace gem8
