#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>

#include "foundation/result.h"

namespace gem8 {

/// The hidden states of every calibration token between two layers: `rows` rows of `row_bytes`, in
/// a mapped file. The operating system keeps in memory what fits and spills the rest; release()
/// gives memory back.
class HiddenStates {
 public:
  /// A new file, its disk space reserved. Errors: kExhausted when the disk cannot hold it.
  static Result<HiddenStates> create(const std::filesystem::path& path, std::uint64_t rows,
                                     std::size_t row_bytes);
  /// An earlier run's file. Errors: kCorrupt for another size; kNotFound.
  static Result<HiddenStates> open(const std::filesystem::path& path, std::uint64_t rows,
                                   std::size_t row_bytes);

  HiddenStates() = default;
  HiddenStates(HiddenStates&& other) noexcept;
  HiddenStates& operator=(HiddenStates&& other) noexcept;
  ~HiddenStates();

  std::span<std::byte> rows(std::uint64_t first, std::uint64_t count) {
    return {data_ + first * row_bytes_, static_cast<std::size_t>(count) * row_bytes_};
  }
  std::uint64_t bytes() const { return bytes_; }

  /// Everything on disk. Errors: kExhausted, kInternal.
  Status flush();
  /// Rows no longer needed for now leave this process's memory; their contents stay.
  void release(std::uint64_t first, std::uint64_t count);

 private:
  static Result<HiddenStates> map(const std::filesystem::path& path, int file, std::uint64_t rows,
                                  std::size_t row_bytes);

  std::byte* data_ = nullptr;
  std::uint64_t bytes_ = 0;
  std::size_t row_bytes_ = 0;
  std::string path_;
};

}  // namespace gem8
