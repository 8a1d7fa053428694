#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "formats/checkpoint.h"

namespace gem8 {

/// A 64-bit FNV-1a hash, fed piece by piece: tells runs apart, protects against nobody.
class Fingerprint {
 public:
  void add(std::span<const std::byte> bytes);
  /// With its length, so that "ab", "c" differs from "a", "bc".
  void add(std::string_view text);
  void add(std::uint64_t number);

  std::string text() const;  ///< 16 hexadecimal digits

 private:
  std::uint64_t hash_ = 0xcbf29ce484222325;
};

/// Config, names, types and shapes of all tensors, and a sample of every tensor's bytes (4 KiB from
/// its beginning, middle and end): enough to notice another checkpoint of the same shape without
/// reading it all.
void add_checkpoint(const Checkpoint& checkpoint, Fingerprint& fingerprint);

/// Sizes and times of its weight files: whether nobody has touched them since.
void add_file_times(const Checkpoint& checkpoint, Fingerprint& fingerprint);

}  // namespace gem8
