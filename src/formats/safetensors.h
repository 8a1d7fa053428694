#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "foundation/dtype.h"
#include "foundation/mapped_file.h"
#include "foundation/result.h"

namespace gem8 {

/// One tensor of a safetensors file. `bytes` looks into the mapped file: row-major, little-endian,
/// exactly n_elements() * dtype_bytes(dtype) long, and at any address: the format promises no
/// alignment.
struct TensorInfo {
  std::string name;
  DType dtype = DType::kU8;
  std::vector<std::int64_t> shape;  ///< [] is a scalar
  std::span<const std::byte> bytes;

  std::size_t n_elements() const { return bytes.size() / dtype_bytes(dtype); }
};

/// "[128, 2816]": for messages.
std::string shape_text(std::span<const std::int64_t> shape);
/// dtype_bytes * product of the shape, or nothing when it does not fit 63 bits or a dimension is
/// negative.
std::optional<std::uint64_t> tensor_bytes(DType dtype, std::span<const std::int64_t> shape);

/// The ways a safetensors container can be wrong, one each.
enum class ContainerFault {
  kTooShort,      ///< fewer than 8 bytes
  kHeaderLength,  ///< header longer than the file or than the format allows
  kHeaderSyntax,  ///< not JSON, or JSON that is no object
  kMetadata,      ///< __metadata__ is not an object of strings
  kEntry,         ///< a tensor's entry lacks or mistypes a member
  kUnknownDType,
  kShape,      ///< a negative dimension, too many, or more elements than can be addressed
  kOffsets,    ///< reversed, or outside the data (a truncated file)
  kSize,       ///< offsets disagree with dtype x shape
  kOverlap,    ///< two tensors share bytes
  kHole,       ///< bytes between tensors that belong to none
  kTrailing,   ///< bytes after the last tensor
  kDuplicate,  ///< two entries of one name
};

struct ContainerFinding {
  ContainerFault fault = ContainerFault::kEntry;
  std::string tensor;   ///< empty when the finding is about the whole file
  std::string message;  ///< what was found, what was wanted
};

/// What can be read of a container, and everything wrong with it.
struct SafetensorsReport {
  MappedFile file;
  std::vector<TensorInfo> tensors;  ///< sound ones only, by name
  std::vector<std::string> names;   ///< every entry of the header, by name, sound or not
  std::vector<std::pair<std::string, std::string>> metadata;  ///< __metadata__, in file order
  std::vector<ContainerFinding> findings;  ///< whole-file findings first, then by position
  std::uint64_t data_bytes = 0;            ///< bytes after the header
};

/// Maps `path` and reports; container faults are findings, not errors.
/// Errors: those of MappedFile::open() only.
/// Source: huggingface/safetensors README "Format" and safetensors/src/tensor.rs.
Result<SafetensorsReport> inspect_safetensors(const std::filesystem::path& path);

/// The same for bytes already in memory; the report's tensors look into them.
SafetensorsReport inspect_safetensors(std::span<const std::byte> file);

/// A safetensors file, mapped, with every header field checked. The tensors live as long as this.
class SafetensorsFile {
 public:
  /// Errors: those of MappedFile::open(); kUnsupported for an element type we do not know; kCorrupt
  /// for any other container fault, naming file, tensor, found and wanted.
  static Result<SafetensorsFile> open(const std::filesystem::path& path);

  std::span<const TensorInfo> tensors() const { return tensors_; }  ///< by name
  const TensorInfo* find(std::string_view name) const;              ///< nullptr when there is none
  std::span<const std::pair<std::string, std::string>> metadata() const { return metadata_; }
  const MappedFile& file() const { return file_; }

 private:
  MappedFile file_;
  std::vector<TensorInfo> tensors_;
  std::vector<std::pair<std::string, std::string>> metadata_;
};

}  // namespace gem8
