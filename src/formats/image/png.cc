#include <png.h>

#include <csetjmp>
#include <cstring>

#include "formats/image/decoders.h"

namespace gem8::internal {
namespace {

struct Source {
  const std::byte* data = nullptr;
  std::size_t left = 0;
};

struct Reader {
  png_structp png = nullptr;
  png_infop info = nullptr;
  ~Reader() { png_destroy_read_struct(&png, &info, nullptr); }
};

void read_bytes(png_structp png, png_bytep to, std::size_t n) {
  auto* source = static_cast<Source*>(png_get_io_ptr(png));
  if (n > source->left) png_error(png, "truncated");
  std::memcpy(to, source->data, n);
  source->data += n;
  source->left -= n;
}

void on_error(png_structp png, png_const_charp) {
  png_longjmp(png, 1);
}
void on_warning(png_structp, png_const_charp) {}

// libpng reports errors by longjmp. The functions below hold nothing that needs a destructor across
// a call into it.

bool read_header(png_structp png, png_infop info) {
  if (setjmp(png_jmpbuf(png)) != 0) return false;
  // Of the chunks that a picture can do without, libpng shall look at transparency alone: texts and
  // profiles are stored compressed, and a thousand of them would unpack to gigabytes; for eXIf it
  // takes as much memory as the chunk says it is long.
  png_set_keep_unknown_chunks(png, PNG_HANDLE_CHUNK_NEVER, nullptr, -1);
  png_read_info(png, info);
  return true;
}

/// Every kind of PNG becomes 8-bit RGB, or RGBA when it has transparency of any kind.
bool set_transformations(png_structp png, png_infop info) {
  if (setjmp(png_jmpbuf(png)) != 0) return false;
  png_set_expand(png);  // palettes to RGB, greys to 8 bits, tRNS to alpha
  png_set_strip_16(png);
  png_set_gray_to_rgb(png);
  png_set_interlace_handling(png);
  png_read_update_info(png, info);
  return true;
}

bool read_pixels(png_structp png, png_bytepp rows) {
  if (setjmp(png_jmpbuf(png)) != 0) return false;
  png_read_image(png, rows);
  png_read_end(png, nullptr);
  return true;
}

int orientation_of(std::span<const std::byte> file) {
  constexpr std::size_t kSignature = 8, kFrame = 12;  // length, type and checksum of a chunk
  for (auto rest = file.subspan(kSignature); rest.size() >= kFrame;) {
    std::size_t length = 0;
    for (std::size_t i = 0; i < 4; ++i)
      length = length << 8 | std::to_integer<std::size_t>(rest[i]);
    if (length > rest.size() - kFrame) return 1;
    if (std::memcmp(&rest[4], "eXIf", 4) == 0) return exif_orientation(rest.subspan(8, length));
    if (std::memcmp(&rest[4], "IEND", 4) == 0) return 1;
    rest = rest.subspan(kFrame + length);
  }
  return 1;
}

}  // namespace

Result<Decoded> decode_png(std::span<const std::byte> file, const ImageLimits& limits) {
  Source source{file.data(), file.size()};
  Reader reader;
  reader.png = png_create_read_struct(PNG_LIBPNG_VER_STRING, nullptr, on_error, on_warning);
  if (reader.png == nullptr) return fail(Code::kExhausted, "no memory for a PNG decoder");
  reader.info = png_create_info_struct(reader.png);
  if (reader.info == nullptr) return fail(Code::kExhausted, "no memory for a PNG decoder");
  png_set_read_fn(reader.png, &source, read_bytes);
  png_set_user_limits(reader.png, 0x7fffffff,
                      0x7fffffff);  // ours are checked below, with a message

  if (!read_header(reader.png, reader.info))
    return fail(Code::kCorrupt, "damaged or truncated PNG header");
  const std::int64_t width = png_get_image_width(reader.png, reader.info);
  const std::int64_t height = png_get_image_height(reader.png, reader.info);
  GEM8_RETURN_IF_ERROR(check_size(width, height, limits));
  if (!set_transformations(reader.png, reader.info))
    return fail(Code::kCorrupt, "damaged PNG header");

  Decoded decoded;
  decoded.width = static_cast<std::int32_t>(width);
  decoded.height = static_cast<std::int32_t>(height);
  decoded.channels = png_get_channels(reader.png, reader.info);
  const std::size_t row_bytes = png_get_rowbytes(reader.png, reader.info);
  if ((decoded.channels != 3 && decoded.channels != 4) ||
      row_bytes != static_cast<std::size_t>(width) * static_cast<std::size_t>(decoded.channels)) {
    return fail(Code::kUnsupported, "PNG with {} channels in {} bytes a row", decoded.channels,
                row_bytes);
  }
  decoded.pixels.resize(row_bytes * static_cast<std::size_t>(height));
  std::vector<png_bytep> rows(static_cast<std::size_t>(height));
  for (std::size_t y = 0; y < rows.size(); ++y) rows[y] = decoded.pixels.data() + y * row_bytes;
  if (!read_pixels(reader.png, rows.data()))
    return fail(Code::kCorrupt, "damaged or truncated PNG data");
  decoded.orientation = orientation_of(file);
  return decoded;
}

}  // namespace gem8::internal
