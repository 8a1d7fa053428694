#pragma once

#include <cstdlib>
#include <filesystem>
#include <optional>

namespace gem8::testing {

/// The folder with the fixtures that are too large, or not ours, to ship with the sources (the real
/// vocabulary, published chat templates): $GEM8_SHARED, else `shared` beside the source tree or one
/// level above. Absent on most machines: then GTEST_SKIP.
inline std::optional<std::filesystem::path> shared_folder() {
  namespace fs = std::filesystem;
  std::error_code ignored;
  if (const char* named = std::getenv("GEM8_SHARED");
      named != nullptr && fs::is_directory(named, ignored))
    return fs::path(named);
  for (const char* candidate : {"../shared", "../../shared"}) {
    const fs::path path = fs::path(GEM8_SOURCE_DIR) / candidate;
    if (fs::is_directory(path / "golden", ignored)) return path;
  }
  return std::nullopt;
}

}  // namespace gem8::testing
