#pragma once

#include "formats/image/image.h"

namespace gem8::internal {

/// What a format's decoder delivers: pixels [height, width, channels] with 3 (RGB) or 4 (RGBA, not
/// premultiplied) channels, as stored, and the EXIF orientation (1 to 8; 1 is upright).
struct Decoded {
  std::int32_t width = 0;
  std::int32_t height = 0;
  int channels = 3;
  std::vector<std::uint8_t> pixels;
  int orientation = 1;
};

/// One per library; each is the only place that includes that library's header.
Result<Decoded> decode_png(std::span<const std::byte> file, const ImageLimits& limits);
Result<Decoded> decode_jpeg(std::span<const std::byte> file, const ImageLimits& limits);
Result<Decoded> decode_webp(std::span<const std::byte> file, const ImageLimits& limits);
Result<Decoded> decode_gif(std::span<const std::byte> file, const ImageLimits& limits);

/// kCorrupt for an empty picture, kExhausted for one beyond the limits.
Status check_size(std::int64_t width, std::int64_t height, const ImageLimits& limits);

/// The orientation tag of a TIFF-formatted EXIF block; 1 when it is absent or the block is damaged.
int exif_orientation(std::span<const std::byte> tiff);

}  // namespace gem8::internal
