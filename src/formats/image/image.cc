#include "formats/image/image.h"

#include <cstring>

#include "formats/image/decoders.h"

namespace gem8 {
namespace internal {

Status check_size(std::int64_t width, std::int64_t height, const ImageLimits& limits) {
  if (width < 1 || height < 1)
    return fail(Code::kCorrupt, "image of {} x {} pixels", width, height);
  if (width > limits.max_side || height > limits.max_side) {
    return fail(Code::kExhausted, "image of {} x {} pixels, a side may have at most {}", width,
                height, limits.max_side);
  }
  if (width * height > limits.max_pixels) {
    return fail(Code::kExhausted, "image of {} x {} pixels, at most {} pixels are decoded", width,
                height, limits.max_pixels);
  }
  return {};
}

int exif_orientation(std::span<const std::byte> tiff) {
  const auto byte = [&](std::size_t at) { return static_cast<std::uint32_t>(tiff[at]); };
  if (tiff.size() < 8) return 1;
  const bool little = byte(0) == 'I' && byte(1) == 'I';
  if (!little && !(byte(0) == 'M' && byte(1) == 'M')) return 1;
  const auto u16 = [&](std::size_t at) {
    return little ? byte(at) | byte(at + 1) << 8 : byte(at) << 8 | byte(at + 1);
  };
  const auto u32 = [&](std::size_t at) {
    return little ? u16(at) | u16(at + 2) << 16 : u16(at) << 16 | u16(at + 2);
  };
  const std::size_t directory = u32(4);
  if (directory > tiff.size() - 2 || directory < 8) return 1;
  const std::size_t n_entries = u16(directory);
  constexpr std::size_t kEntryBytes = 12;
  constexpr std::uint32_t kOrientationTag = 0x0112;
  constexpr std::uint32_t kShort = 3;
  for (std::size_t i = 0; i < n_entries; ++i) {
    const std::size_t entry = directory + 2 + i * kEntryBytes;
    if (entry + kEntryBytes > tiff.size()) return 1;
    if (u16(entry) != kOrientationTag || u16(entry + 2) != kShort) continue;
    const auto value = static_cast<int>(u16(entry + 8));
    return value >= 1 && value <= 8 ? value : 1;
  }
  return 1;
}

namespace {

/// Pillow's rounding of in * alpha + white * (255 - alpha), divided by 255.
std::uint8_t over_white(std::uint32_t value, std::uint32_t alpha) {
  const std::uint32_t sum = value * alpha + 255 * (255 - alpha) + 128;
  return static_cast<std::uint8_t>(((sum >> 8) + sum) >> 8);
}

std::vector<std::uint8_t> to_rgb(Decoded decoded, AlphaPolicy alpha) {
  if (decoded.channels == 3) return std::move(decoded.pixels);
  const std::size_t n_pixels = decoded.pixels.size() / 4;
  std::vector<std::uint8_t> rgb(n_pixels * 3);
  for (std::size_t i = 0; i < n_pixels; ++i) {
    const std::uint8_t* from = &decoded.pixels[i * 4];
    for (std::size_t c = 0; c < 3; ++c) {
      rgb[i * 3 + c] = alpha == AlphaPolicy::kDrop ? from[c] : over_white(from[c], from[3]);
    }
  }
  return rgb;
}

/// EXIF orientation o says how the stored picture must be turned: for every upright pixel, where it
/// is stored.
Image turn_upright(std::int32_t width, std::int32_t height, std::vector<std::uint8_t> rgb,
                   int orientation) {
  if (orientation == 1) return {width, height, std::move(rgb)};
  const bool swapped = orientation >= 5;
  Image image{swapped ? height : width, swapped ? width : height,
              std::vector<std::uint8_t>(rgb.size())};
  std::size_t to = 0;
  for (std::int32_t y = 0; y < image.height; ++y) {
    for (std::int32_t x = 0; x < image.width; ++x, to += 3) {
      std::int32_t sx = swapped ? y : x;
      std::int32_t sy = swapped ? x : y;
      if (orientation == 2 || orientation == 3 || orientation == 7 || orientation == 8)
        sx = width - 1 - sx;
      if (orientation == 3 || orientation == 4 || orientation == 6 || orientation == 7)
        sy = height - 1 - sy;
      std::memcpy(&image.rgb[to],
                  &rgb[(static_cast<std::size_t>(sy) * static_cast<std::size_t>(width) +
                        static_cast<std::size_t>(sx)) *
                       3],
                  3);
    }
  }
  return image;
}

bool starts_with(std::span<const std::byte> file, std::string_view magic, std::size_t at = 0) {
  return file.size() >= at + magic.size() &&
         std::memcmp(file.data() + at, magic.data(), magic.size()) == 0;
}

Result<Decoded> decode_any(std::span<const std::byte> file, const ImageLimits& limits) {
  using namespace std::string_view_literals;
  if (starts_with(file, "\x89PNG\r\n\x1a\n"sv)) return decode_png(file, limits);
  if (starts_with(file, "\xff\xd8\xff"sv)) return decode_jpeg(file, limits);
  if (starts_with(file, "RIFF"sv) && starts_with(file, "WEBP"sv, 8))
    return decode_webp(file, limits);
  if (starts_with(file, "GIF87a"sv) || starts_with(file, "GIF89a"sv))
    return decode_gif(file, limits);
  return fail(Code::kUnsupported,
              "not an image in a known format: found {} bytes that begin like none, wanted PNG, "
              "JPEG, WebP or GIF",
              file.size());
}

}  // namespace
}  // namespace internal

Result<Image> decode_image(std::span<const std::byte> file, AlphaPolicy alpha,
                           const ImageLimits& limits) {
  if (file.empty()) return fail(Code::kCorrupt, "image file of 0 bytes");
  if (file.size() > limits.max_bytes) {
    return fail(Code::kExhausted, "image file of {} bytes, at most {} are read", file.size(),
                limits.max_bytes);
  }
  GEM8_TRY(internal::Decoded decoded, internal::decode_any(file, limits));
  const auto [width, height, orientation] =
      std::tuple(decoded.width, decoded.height, decoded.orientation);
  return internal::turn_upright(width, height, internal::to_rgb(std::move(decoded), alpha),
                                orientation);
}

}  // namespace gem8
