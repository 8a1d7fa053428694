// Any bytes as an image: refused or decoded, within the limits.
#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <string_view>
#include <vector>

#include "formats/image/image.h"
#include "foundation/check.h"

namespace {

constexpr std::string_view kPng = "\x89PNG\r\n\x1a\n";

std::uint32_t crc32(std::span<const std::uint8_t> bytes) {
  static const auto table = [] {
    std::array<std::uint32_t, 256> entries{};
    for (std::uint32_t i = 0; i < 256; ++i) {
      entries[i] = i;
      for (int bit = 0; bit < 8; ++bit)
        entries[i] = (entries[i] >> 1) ^ ((entries[i] & 1) != 0 ? 0xedb88320u : 0u);
    }
    return entries;
  }();
  std::uint32_t crc = 0xffffffffu;
  for (const std::uint8_t byte : bytes) crc = table[(crc ^ byte) & 0xff] ^ (crc >> 8);
  return ~crc;
}

/// The same PNG with the checksum of every chunk made right, which no mutation finds.
std::vector<std::uint8_t> with_checksums(std::span<const std::uint8_t> file) {
  std::vector<std::uint8_t> png(file.begin(), file.end());
  for (std::size_t at = kPng.size(); png.size() - at >= 12;) {
    const std::size_t length = std::size_t{png[at]} << 24 | std::size_t{png[at + 1]} << 16 |
                               std::size_t{png[at + 2]} << 8 | std::size_t{png[at + 3]};
    if (length > png.size() - at - 12) break;
    const std::uint32_t crc = crc32(std::span(png).subspan(at + 4, 4 + length));
    at += 8 + length;
    for (int byte = 3; byte >= 0; --byte) png[at++] = static_cast<std::uint8_t>(crc >> (8 * byte));
  }
  return png;
}

void decode(std::span<const std::uint8_t> file) {
  const gem8::ImageLimits limits{.max_pixels = 1 << 20, .max_side = 4096};
  const auto image = gem8::decode_image(std::as_bytes(file), gem8::AlphaPolicy::kWhite, limits);
  if (image) {
    GEM8_CHECK(image->rgb.size() == static_cast<std::size_t>(image->width) *
                                        static_cast<std::size_t>(image->height) * 3);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::span<const std::uint8_t> file(data, size);
  decode(file);
  if (size >= kPng.size() && std::memcmp(data, kPng.data(), kPng.size()) == 0) {
    const std::vector<std::uint8_t> repaired = with_checksums(file);
    if (!std::ranges::equal(repaired, file)) decode(repaired);
  }
  return 0;
}
