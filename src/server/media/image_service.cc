#include "server/media/image_service.h"

#include <utility>

namespace gem8 {

ImageService::ImageService(MediaLoader loader, const ImageOptions& options, std::size_t n_threads)
    : preparer_(std::move(loader), options), jobs_(n_threads) {}

void ImageService::submit(std::vector<ImageSource> sources, std::optional<int> soft_tokens,
                          Done done) {
  jobs_.submit(
      [this, sources = std::move(sources), soft_tokens, done = std::move(done)](const Status& go) {
        if (!go) return done(std::unexpected(go.error()));
        done(preparer_.prepare(sources, soft_tokens));
      });
}

}  // namespace gem8
