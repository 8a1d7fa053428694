#include "server/media/media_loader.h"

#include <algorithm>
#include <string>

#include "formats/data_url.h"

namespace gem8 {
namespace {

char to_lower(char c) {
  return 'A' <= c && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
}

/// `prefix` in lower case.
bool starts_with_any_case(std::string_view text, std::string_view prefix) {
  return text.size() >= prefix.size() &&
         std::equal(prefix.begin(), prefix.end(), text.begin(),
                    [](char want, char found) { return want == to_lower(found); });
}

}  // namespace

Result<MediaLoader> MediaLoader::create(MediaSources sources) {
  for (std::string& host : sources.remote.allowed_hosts) {
    host = normal_host(std::move(host));
  }
  if (!sources.local_folder.empty()) {
    std::error_code error;
    const auto folder = std::filesystem::canonical(sources.local_folder, error);
    if (error || !std::filesystem::is_directory(folder, error)) {
      return fail(Code::kInvalidArgument, "--allowed-local-media-path: '{}' is not a folder",
                  sources.local_folder.string());
    }
    sources.local_folder = folder;
  }
  return MediaLoader(std::move(sources));
}

Result<std::vector<std::byte>> MediaLoader::load(std::string_view url) const {
  const std::size_t max_bytes = sources_.remote.max_bytes;
  if (is_data_url(url)) return decode_data_url(url, max_bytes);
  if (starts_with_any_case(url, "http://") || starts_with_any_case(url, "https://")) {
    if (sources_.remote.allowed_hosts.empty()) {
      return fail(Code::kInvalidArgument,
                  "remote URLs are off (--allowed-media-domains names hosts): send a data: URL");
    }
    return fetch_http(std::string(url), sources_.remote);
  }
  if (starts_with_any_case(url, "file:")) {
    if (sources_.local_folder.empty()) {
      return fail(Code::kInvalidArgument,
                  "file: URLs are off (--allowed-local-media-path names a folder)");
    }
    return read_file_url(url, sources_.local_folder, max_bytes);
  }
  return fail(Code::kInvalidArgument, "a URL of another scheme than data, http, https and file");
}

}  // namespace gem8
