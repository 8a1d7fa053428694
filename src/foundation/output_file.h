#pragma once

#include <cstddef>
#include <filesystem>
#include <span>
#include <string_view>

#include "foundation/result.h"

namespace gem8 {

/// A file that appears under its name complete or not at all: bytes go to a temporary neighbour,
/// which finish() syncs and renames; destroyed before that, it leaves nothing behind. A symbolic
/// link stays, and what it leads to is replaced. What exists and is no regular file (a device, a
/// pipe) is written into as it is. Move-only.
class OutputFile {
 public:
  /// Errors: kInvalidArgument for an empty path, a folder, or a place where nothing may be written;
  /// kNotFound where there is no such folder.
  static Result<OutputFile> create(const std::filesystem::path& path);

  OutputFile() = default;
  OutputFile(OutputFile&& other) noexcept;
  OutputFile& operator=(OutputFile&& other) noexcept;
  ~OutputFile();

  /// Errors: kExhausted when the disk is full.
  Status write(std::span<const std::byte> bytes);
  Status finish();

  bool is_open() const { return file_ >= 0; }  ///< created and not finished

 private:
  std::filesystem::path path_;
  std::filesystem::path temporary_;  ///< empty: written in place
  int file_ = -1;
};

/// Writes a whole OutputFile: afterwards `path` holds either all of `bytes` or what it held before.
Status write_file_atomically(const std::filesystem::path& path, std::span<const std::byte> bytes);
Status write_file_atomically(const std::filesystem::path& path, std::string_view text);

/// Whether OutputFile could write there, without leaving a trace. Errors as create().
Status check_writable(const std::filesystem::path& path);

}  // namespace gem8
