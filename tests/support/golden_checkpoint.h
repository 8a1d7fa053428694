#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <memory>
#include <optional>
#include <string>

#include "formats/checkpoint.h"
#include "tests/support/shared_folder.h"

namespace gem8::testing {

/// tests/golden/REST, else golden/REST of the shared fixtures: a file, or a folder that holds
/// weights (some folders ship without theirs).
inline std::optional<std::filesystem::path> golden_path(const std::string& rest) {
  namespace fs = std::filesystem;
  const auto usable = [](const fs::path& path) {
    if (!fs::is_directory(path)) return fs::exists(path);
    for (const auto& entry : fs::directory_iterator(path)) {
      if (entry.path().extension() == ".safetensors") return true;
    }
    return false;
  };
  const fs::path shipped = fs::path(GEM8_TEST_DATA) / "golden" / rest;
  if (usable(shipped)) return shipped;
  const auto shared = shared_folder();
  if (shared && usable(*shared / "golden" / rest)) return *shared / "golden" / rest;
  return std::nullopt;
}

/// The opened checkpoint, or a test failure and null.
inline std::shared_ptr<const Checkpoint> open_checkpoint(const std::filesystem::path& dir) {
  auto checkpoint = Checkpoint::open(dir);
  if (!checkpoint) ADD_FAILURE() << checkpoint.error().text();
  return checkpoint ? std::make_shared<const Checkpoint>(std::move(*checkpoint)) : nullptr;
}

}  // namespace gem8::testing
