#include "formats/locate.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cstdlib>
#include <optional>
#include <vector>

#include "foundation/mapped_file.h"

namespace gem8 {
namespace {

namespace fs = std::filesystem;

std::optional<std::string> environment(const char* name) {
  const char* value = std::getenv(name);
  if (value == nullptr || *value == '\0') return std::nullopt;
  return std::string(value);
}

bool is_folder(const fs::path& path) {
  std::error_code ignored;
  return fs::is_directory(path, ignored);
}

/// Where huggingface_hub keeps downloads: $HF_HUB_CACHE, else $HF_HOME/hub, else under the home's
/// cache.
std::optional<fs::path> hub_cache() {
  if (const auto cache = environment("HF_HUB_CACHE")) return fs::path(*cache);
  if (const auto home = environment("HF_HOME")) return fs::path(*home) / "hub";
  if (const auto cache = environment("XDG_CACHE_HOME"))
    return fs::path(*cache) / "huggingface" / "hub";
  if (const auto home = environment("HOME"))
    return fs::path(*home) / ".cache" / "huggingface" / "hub";
  return std::nullopt;
}

/// "org/name": two parts of letters, digits, '-', '_' and '.', so that nothing leaves the cache
/// folder.
bool is_hub_id(std::string_view name) {
  const std::size_t slash = name.find('/');
  if (slash == std::string_view::npos) return false;
  const auto good = [](std::string_view part) {
    return !part.empty() && part.front() != '.' && part.size() <= 96 &&
           part.find("..") == std::string_view::npos && std::ranges::all_of(part, [](char c) {
             return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                    c == '-' || c == '_' || c == '.';
           });
  };
  return good(name.substr(0, slash)) && good(name.substr(slash + 1));
}

/// The snapshot refs/main names, else the newest that has a config.json.
std::optional<fs::path> snapshot_of(const fs::path& repository) {
  const fs::path snapshots = repository / "snapshots";
  if (Result<std::string> ref = read_text_file(repository / "refs" / "main", 4096)) {
    while (!ref->empty() && (ref->back() == '\n' || ref->back() == '\r' || ref->back() == ' '))
      ref->pop_back();
    const bool plain = !ref->empty() && ref->find_first_of("/\\") == std::string::npos &&
                       *ref != "." && *ref != "..";
    if (plain && is_folder(snapshots / *ref)) return snapshots / *ref;
  }
  std::optional<fs::path> newest;
  fs::file_time_type newest_time;
  std::error_code error;
  for (fs::directory_iterator it(snapshots, error), end; !error && it != end; it.increment(error)) {
    std::error_code ignored;
    if (!fs::exists(it->path() / "config.json", ignored)) continue;
    const fs::file_time_type time = fs::last_write_time(it->path(), ignored);
    if (!newest || time > newest_time) {
      newest = it->path();
      newest_time = time;
    }
  }
  return newest;
}

/// Beside the sources of a build tree, else where `install` puts it.
std::vector<fs::path> demo_folders() {
  std::vector<fs::path> folders = {fs::path(GEM8_SOURCE_DIR) / "models" / "demo"};
  std::error_code error;
  const fs::path executable = fs::read_symlink("/proc/self/exe", error);
  if (!error) {
    folders.push_back((executable.parent_path() / ".." / "share" / "gem8" / "models" / "demo")
                          .lexically_normal());
  }
  return folders;
}

}  // namespace

Result<fs::path> resolve_model_dir(std::string_view name) {
  if (name.empty() || name.find('\0') != std::string_view::npos) {
    return fail(Code::kInvalidArgument, "no checkpoint named; wanted a folder, a hub id or 'demo'");
  }
  const fs::path path(name);
  if (is_folder(path)) return path;
  std::error_code ignored;
  // The source tree has a script of that name beside the model's folder.
  if (name != "demo" && fs::exists(path, ignored)) {
    return fail(Code::kInvalidArgument, "'{}' is a file; wanted the folder that holds config.json",
                name);
  }
  std::vector<std::string> tried = {fmt::format("the folder {}", name)};
  if (name == "demo") {
    for (const fs::path& folder : demo_folders()) {
      if (is_folder(folder)) return folder;
      tried.push_back(folder.string());
    }
  }
  if (is_hub_id(name)) {
    if (const std::optional<fs::path> cache = hub_cache()) {
      std::string folder = "models--" + std::string(name);
      folder.replace(folder.find('/'), 1, "--");
      if (const std::optional<fs::path> snapshot = snapshot_of(*cache / folder)) return *snapshot;
      tried.push_back(fmt::format("the Hugging Face cache folder {}", (*cache / folder).string()));
    }
  }
  return fail(Code::kNotFound, "no checkpoint '{}'; tried {}", name, fmt::join(tried, ", "));
}

}  // namespace gem8
