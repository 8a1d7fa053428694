#pragma once

#include <array>
#include <cstddef>
#include <span>
#include <string>

namespace gem8 {

/// SHA-256 of the bytes (FIPS 180-4): names content that strangers may choose, such as images in a
/// cache.
using Sha256 = std::array<std::byte, 32>;
Sha256 sha256(std::span<const std::byte> bytes);

/// 64 lower-case hexadecimal digits.
std::string to_hex(const Sha256& hash);

}  // namespace gem8
