#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "formats/image/image.h"

namespace gem8 {

/// How many soft tokens an image may become.
inline constexpr std::array<int, 5> kSoftTokenBudgets{70, 140, 280, 560, 1120};

/// The geometry every Gemma 4 vision tower shares.
inline constexpr std::int32_t kPatchPixels = 16;  ///< side of a patch
inline constexpr std::int32_t kPoolPatches =
    3;  ///< side of the square of patches that becomes one soft token
inline constexpr std::int32_t kPatchValues = kPatchPixels * kPatchPixels * 3;

struct ImageSize {
  std::int32_t width = 0;
  std::int32_t height = 0;
  friend bool operator==(const ImageSize&, const ImageSize&) = default;
};

/// The size an image is scaled to: the largest with the same shape, up to rounding down to
/// multiples of 48, whose soft tokens fit the budget. Small images grow. `soft_tokens` is one of
/// kSoftTokenBudgets (else kInvalidArgument). Source: the reference processor's rule, in double and
/// in its order of operations, which decides border cases.
Result<ImageSize> target_size(ImageSize source, int soft_tokens);

/// Soft tokens of an image of that (target) size.
constexpr std::int64_t soft_token_count(ImageSize size) {
  constexpr std::int32_t kSide = kPatchPixels * kPoolPatches;
  return std::int64_t{size.width / kSide} * (size.height / kSide);
}

/// Antialiased bicubic resampling (a = -0.5, align_corners false) on 8-bit pixels with integer
/// weights, width first. Bit-exact with torchvision on the CPU, which the reference processor uses.
Image resize_bicubic(const Image& image, ImageSize size);

/// What the vision tower reads: one row per patch, row-major over the picture.
struct Patches {
  std::vector<float>
      pixels;  ///< [patches, 768], (dy, dx, channel) inside a patch, byte * float32(1/255)
  std::vector<std::int64_t> positions;  ///< [patches, 2], x (column) first
  std::int64_t columns = 0;             ///< patches in a row of the picture

  std::int64_t count() const { return static_cast<std::int64_t>(positions.size() / 2); }
  std::int64_t soft_tokens() const { return count() / (kPoolPatches * kPoolPatches); }
};

/// Cuts an image whose sides are multiples of 48 into patches.
Patches cut_patches(const Image& image);

/// The whole way: target size, resize (skipped when the size is right already), patches.
Result<Patches> preprocess_image(const Image& image, int soft_tokens);

}  // namespace gem8
