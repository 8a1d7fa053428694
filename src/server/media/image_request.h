#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "formats/image/image.h"
#include "foundation/guarded.h"
#include "foundation/json/json.h"
#include "foundation/lru_cache.h"
#include "model/vision/preprocess.h"
#include "server/media/media_loader.h"

namespace gem8 {

/// An image part of a request.
struct ImageSource {
  std::string url;
  std::string param;  ///< the request's field, for errors: "messages[0].content[1].image_url.url"
};

/// An image on its way to the tower.
struct PreparedImage {
  std::shared_ptr<const Patches> patches;
  std::string content_hash;  ///< of file, budget and alpha policy: equal hash, equal patches
};

/// What requests may ask of us.
struct ImageOptions {
  std::size_t max_images = 16;  ///< in a request; 0: images are switched off
  std::int64_t max_request_pixels = std::int64_t{256}
                                    << 20;           ///< of all images of a request, decoded
  std::chrono::milliseconds request_timeout{15000};  ///< no image is begun after it
  int soft_tokens = 280;                             ///< budget of a request that names none
  AlphaPolicy alpha = AlphaPolicy::kWhite;
  ImageLimits limits;  ///< of one image
  std::size_t cache_bytes = std::size_t{256} << 20;
};

/// Makes patches of the images of requests, with a cache by content: the same picture comes again
/// with every turn of a conversation.
class ImagePreparer {
 public:
  ImagePreparer(MediaLoader loader, const ImageOptions& options)
      : loader_(std::move(loader)),
        options_(options),
        cache_(LruCache<const Entry>(options.cache_bytes)) {}

  const ImageOptions& options() const { return options_; }

  /// The images in order, at the given budget or the default one. Blocks (fetches, decodes); from
  /// any thread. Errors: kInvalidArgument, whatever was wrong with an image (its address, its size,
  /// its bytes): the request is what has to change. The context is the field; messages are fixed
  /// strings.
  Result<std::vector<PreparedImage>> prepare(std::span<const ImageSource> sources,
                                             std::optional<int> soft_tokens = std::nullopt);

 private:
  struct Entry {
    std::shared_ptr<const Patches> patches;
    std::int64_t pixels = 0;  ///< of the decoded image
  };

  Result<std::shared_ptr<const Entry>> prepare_file(std::span<const std::byte> file,
                                                    const std::string& key, int soft_tokens,
                                                    std::int64_t max_pixels);

  MediaLoader loader_;
  ImageOptions options_;
  Guarded<LruCache<const Entry>> cache_;
};

/// The budget that mm_processor_kwargs asks for: {"max_soft_tokens": 560}, or nullopt when it does
/// not say. Errors: kInvalidArgument with the field as context, also for members gem8 does not
/// know.
Result<std::optional<int>> parse_mm_processor_kwargs(const Json& kwargs);

/// --limit-mm-per-prompt, as JSON {"image": 4} or in the older form image=4,video=0: the number of
/// images, nullopt when it does not say. Error: kInvalidArgument.
Result<std::optional<std::size_t>> parse_media_limits(std::string_view text);

}  // namespace gem8
