#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "foundation/result.h"
#include "quantize/calibrator.h"

namespace gem8 {

/// What an unfinished conversion remembers: which run it is, and the layers calibrated so far. One
/// small file beside the shards, replaced atomically.
struct RunState {
  std::string fingerprint;
  std::vector<LayerStatistics> layers;

  static bool is_in(const std::filesystem::path& folder);
  /// nullopt when the folder has none. Error: kCorrupt.
  static Result<std::optional<RunState>> read(const std::filesystem::path& folder);
  Status write(const std::filesystem::path& folder) const;
  static void remove(const std::filesystem::path& folder);
};

}  // namespace gem8
