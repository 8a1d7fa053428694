#pragma once

#include <cstddef>
#include <filesystem>
#include <optional>
#include <string_view>
#include <vector>

#include "foundation/result.h"
#include "server/media/http_fetch.h"

namespace gem8 {

/// Where the bytes of a medium may come from. The default: only out of the request itself.
struct MediaSources {
  FetchPolicy remote;                  ///< without allowed_hosts nothing is fetched
  std::filesystem::path local_folder;  ///< file: URLs may name what lies below; empty: none
};

/// The bytes behind the URL of an image part.
class MediaLoader {
 public:
  /// Normalises host names. Error: kInvalidArgument when local_folder is no folder.
  static Result<MediaLoader> create(MediaSources sources);

  /// Blocks while fetching; from any thread. `data:` URLs hold base64 of any media type; http and
  /// https as fetch_http() says; `file:` after symbolic links are resolved. Errors, fixed strings
  /// without the URL: kInvalidArgument, kExhausted (too large), kUnavailable, kDeadline.
  Result<std::vector<std::byte>> load(std::string_view url) const;

 private:
  explicit MediaLoader(MediaSources sources) : sources_(std::move(sources)) {}

  MediaSources sources_;
};

/// The content of the regular file that a `file:` URL names, when it lies below `folder` (which is
/// canonical) after every symbolic link is followed. What does not exist and what lies elsewhere
/// get the same answer: kInvalidArgument. kExhausted beyond `max_bytes`.
Result<std::vector<std::byte>> read_file_url(std::string_view url,
                                             const std::filesystem::path& folder,
                                             std::size_t max_bytes);

}  // namespace gem8
