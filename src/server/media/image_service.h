#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "server/media/image_request.h"

namespace gem8 {

/// Prepares the images of requests on threads of its own: fetching and decoding block, I/O and the
/// engine go on. Few threads bound the memory that decoded pictures take at a time.
class ImageService {
 public:
  using Done = std::function<void(Result<std::vector<PreparedImage>>)>;

  ImageService(MediaLoader loader, const ImageOptions& options, std::size_t n_threads);
  /// Waits for the requests in work; those that wait are told kCancelled.
  ~ImageService();

  const ImageOptions& options() const { return preparer_.options(); }

  /// Queues a request; from any thread. `done` is called once, on one of the service's threads,
  /// with what ImagePreparer::prepare() returns.
  void submit(std::vector<ImageSource> sources, std::optional<int> soft_tokens, Done done);

 private:
  struct Job {
    std::vector<ImageSource> sources;
    std::optional<int> soft_tokens;
    Done done;
  };

  void work(std::stop_token stop);

  ImagePreparer preparer_;
  std::mutex mutex_;
  std::condition_variable_any arrived_;
  std::deque<Job> jobs_;               // under mutex_
  std::vector<std::jthread> threads_;  // last: they use everything above
};

}  // namespace gem8
