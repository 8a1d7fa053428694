#pragma once

#include <filesystem>
#include <utility>

#include "foundation/result.h"

namespace gem8 {

/// Keeps a folder to one process at a time. It ends with the process, however that ends.
class FolderLock {
 public:
  /// Errors: kUnavailable when another process has it; kNotFound.
  static Result<FolderLock> take(const std::filesystem::path& dir);

  FolderLock() = default;
  FolderLock(FolderLock&& other) noexcept : file_(std::exchange(other.file_, -1)) {}
  FolderLock& operator=(FolderLock&& other) noexcept {
    std::swap(file_, other.file_);
    return *this;
  }
  ~FolderLock();

 private:
  int file_ = -1;
};

}  // namespace gem8
