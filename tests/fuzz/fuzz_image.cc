// Any bytes as an image: refused or decoded, within the limits.
#include <cstdint>

#include "formats/image/image.h"
#include "foundation/check.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const gem8::ImageLimits limits{.max_pixels = 1 << 20, .max_side = 4096};
  const auto image =
      gem8::decode_image(std::as_bytes(std::span(data, size)), gem8::AlphaPolicy::kWhite, limits);
  if (image) {
    GEM8_CHECK(image->rgb.size() == static_cast<std::size_t>(image->width) *
                                        static_cast<std::size_t>(image->height) * 3);
  }
  return 0;
}
