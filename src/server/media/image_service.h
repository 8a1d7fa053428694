#pragma once

#include <functional>
#include <optional>
#include <vector>

#include "foundation/job_queue.h"
#include "server/media/image_request.h"

namespace gem8 {

/// Prepares the images of requests on threads of its own: fetching and decoding block, I/O and the
/// engine go on. Few threads bound the memory that decoded pictures take at a time. Its end waits
/// for the requests in work; those that wait are told kCancelled.
class ImageService {
 public:
  using Done = std::function<void(Result<std::vector<PreparedImage>>)>;

  ImageService(MediaLoader loader, const ImageOptions& options, std::size_t n_threads);
  const ImageOptions& options() const { return preparer_.options(); }

  /// Queues a request; from any thread. `done` is called once, on one of the service's threads,
  /// with what ImagePreparer::prepare() returns.
  void submit(std::vector<ImageSource> sources, std::optional<int> soft_tokens, Done done);

 private:
  ImagePreparer preparer_;
  JobQueue jobs_;  // last: they use the preparer
};

}  // namespace gem8
