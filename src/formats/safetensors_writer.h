#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "foundation/dtype.h"
#include "foundation/output_file.h"
#include "foundation/result.h"

namespace gem8 {

/// A tensor to be written: everything but its bytes.
struct TensorSpec {
  std::string name;
  DType dtype = DType::kU8;
  std::vector<std::int64_t> shape;
};

/// Sorts as the reference writer lays files out: wider element types first, then by name, so that
/// every tensor is aligned to its element type.
void sort_for_alignment(std::vector<TensorSpec>& specs);

/// Streams one safetensors file: declare all tensors, append their bytes in the declared order,
/// finish. The file appears as an OutputFile does, in finish(). Memory: the header only.
class SafetensorsWriter {
 public:
  using Metadata = std::vector<std::pair<std::string, std::string>>;

  /// Writes the header; data starts at a multiple of 8.
  /// Errors: kInvalidArgument for a duplicate name, the name "__metadata__", a bad shape or a
  /// folder that cannot be written; kExhausted when the disk is full or the header would exceed the
  /// format's limit.
  static Result<SafetensorsWriter> create(const std::filesystem::path& path,
                                          std::vector<TensorSpec> tensors,
                                          const Metadata& metadata = {{"format", "pt"}});

  /// Bytes of tensor `name`, which must be the one whose turn it is; a tensor may come in several
  /// pieces. Errors: kInvalidArgument for another tensor's turn or too many bytes; kExhausted when
  /// the disk is full.
  Status append(std::string_view name, std::span<const std::byte> bytes);

  /// Errors: kInvalidArgument when bytes are missing; kExhausted when the disk is full.
  Status finish();

  std::uint64_t data_bytes() const { return total_bytes_; }  ///< of all declared tensors

 private:
  SafetensorsWriter() = default;
  Status put(std::span<const std::byte> bytes);
  void start(std::size_t tensor);

  std::filesystem::path path_;
  OutputFile file_;
  std::vector<TensorSpec> tensors_;
  std::size_t current_ = 0;         ///< tensor whose turn it is
  std::uint64_t current_left_ = 0;  ///< bytes it still lacks
  std::uint64_t total_bytes_ = 0;
  std::vector<std::byte> buffer_;  ///< small pieces gathered into large writes
};

}  // namespace gem8
