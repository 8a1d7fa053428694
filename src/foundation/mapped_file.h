#pragma once

#include <cstddef>
#include <filesystem>
#include <span>
#include <string>

#include "foundation/result.h"

namespace gem8 {

/// A whole file mapped read-only; the bytes live as long as this does. Move-only.
class MappedFile {
 public:
  /// Errors: kNotFound; kInvalidArgument for a folder or anything that cannot be mapped. An empty
  /// file maps to an empty span.
  static Result<MappedFile> open(const std::filesystem::path& path);

  MappedFile() = default;
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  ~MappedFile();

  std::span<const std::byte> bytes() const { return {data_, size_}; }
  /// The pages wholly inside `part` leave this process's memory and come back from the file when
  /// they are read again. What lies outside the mapping is left alone.
  void release(std::span<const std::byte> part) const;

 private:
  const std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

/// The file's text. Errors as open(); kExhausted when larger than `max_bytes`.
Result<std::string> read_text_file(const std::filesystem::path& path,
                                   std::size_t max_bytes = std::size_t{1} << 30);

/// An errno as Error: ENOENT kNotFound, ENOSPC/EDQUOT/ENOMEM kExhausted, the rest kInvalidArgument.
std::unexpected<Error> system_error(std::string_view what, const std::filesystem::path& path,
                                    int error_number);

}  // namespace gem8
