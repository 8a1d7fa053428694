#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "foundation/result.h"

namespace gem8 {

/// An upright picture: rgb [height, width, 3], 8 bits a channel, no padding.
struct Image {
  std::int32_t width = 0;
  std::int32_t height = 0;
  std::vector<std::uint8_t> rgb;
};

/// What becomes of transparency.
enum class AlphaPolicy {
  kWhite,  ///< composited on white, as people expect to see it (and as vLLM does)
  kDrop,   ///< thrown away, as the reference processor does
};

/// Checked on the header, before memory is taken.
struct ImageLimits {
  std::size_t max_bytes = std::size_t{64} << 20;      ///< of the encoded file
  std::int64_t max_pixels = std::int64_t{128} << 20;  ///< width * height
  std::int32_t max_side = 65500;                      ///< JPEG's own bound
};

/// The first frame of a PNG, JPEG, WebP or GIF file, recognised by its first bytes, turned upright
/// by its EXIF orientation.
///
/// Greys are replicated, palettes looked up, 16-bit channels read by their high byte; gamma and
/// colour profiles are ignored. JPEG uses the accurate integer inverse transform and smooth chroma
/// upsampling; CMYK is read as Adobe writes it. Errors: kUnsupported for another format; kCorrupt
/// for a truncated or damaged file; kExhausted when a limit is passed. Messages are fixed strings
/// with sizes: nothing of the file's content. Source: the reference is Pillow's decoding, on the
/// files in tests/golden/vision.
Result<Image> decode_image(std::span<const std::byte> file, AlphaPolicy alpha = AlphaPolicy::kWhite,
                           const ImageLimits& limits = {});

}  // namespace gem8
