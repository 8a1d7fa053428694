#include <algorithm>
#include <csetjmp>
#include <cstdio>
#include <cstring>

#include <jerror.h>
#include <jpeglib.h>

#include "formats/image/decoders.h"

namespace gem8::internal {
namespace {

// A progressive file may repeat scans without end, each costing a pass over the whole picture and a
// few bytes of the file. Real encoders write about ten; a small picture may have more.
constexpr std::int64_t kFewScans = 24;
constexpr std::int64_t kMaxScans = 200;
constexpr std::int64_t kMaxScanPixels = std::int64_t{1} << 30;

struct ErrorState {
  jpeg_error_mgr base;  // first: libjpeg hands back a pointer to it
  std::jmp_buf jump;
  bool truncated = false;
  bool too_many_scans = false;
};

struct Decoder {
  jpeg_decompress_struct state{};
  ErrorState errors{};
  jpeg_progress_mgr progress{};
  ~Decoder() { jpeg_destroy_decompress(&state); }
};

[[noreturn]] void on_error(j_common_ptr state) {
  std::longjmp(reinterpret_cast<ErrorState*>(state->err)->jump, 1);
}

void on_message(j_common_ptr state, int level) {
  if (level < 0 && state->err->msg_code == JWRN_JPEG_EOF)
    reinterpret_cast<ErrorState*>(state->err)->truncated = true;
}

void on_progress(j_common_ptr base) {
  const auto& state = *reinterpret_cast<j_decompress_ptr>(base);
  const std::int64_t n_pixels = std::int64_t{state.image_width} * state.image_height;
  if (state.input_scan_number <= std::clamp(kMaxScanPixels / n_pixels, kFewScans, kMaxScans))
    return;
  reinterpret_cast<ErrorState*>(base->err)->too_many_scans = true;
  on_error(base);
}

// libjpeg reports errors by longjmp. The functions below hold nothing that needs a destructor
// across a call into it.

bool start(Decoder& decoder, const unsigned char* data, unsigned long n_bytes) {
  decoder.state.err = jpeg_std_error(&decoder.errors.base);
  decoder.errors.base.error_exit = on_error;
  decoder.errors.base.emit_message = on_message;
  if (setjmp(decoder.errors.jump) != 0) return false;
  jpeg_create_decompress(&decoder.state);
  decoder.progress.progress_monitor = on_progress;
  decoder.state.progress = &decoder.progress;
  jpeg_mem_src(&decoder.state, data, n_bytes);
  jpeg_save_markers(&decoder.state, JPEG_APP0 + 1, 0xffff);  // EXIF
  return jpeg_read_header(&decoder.state, TRUE) == JPEG_HEADER_OK;
}

bool begin_pixels(Decoder& decoder) {
  if (setjmp(decoder.errors.jump) != 0) return false;
  const bool four = decoder.state.num_components == 4;
  decoder.state.out_color_space = four                                ? JCS_CMYK
                                  : decoder.state.num_components == 1 ? JCS_GRAYSCALE
                                                                      : JCS_RGB;
  decoder.state.dct_method = JDCT_ISLOW;
  decoder.state.do_fancy_upsampling = TRUE;
  return jpeg_start_decompress(&decoder.state) == TRUE;
}

bool read_row(Decoder& decoder, JSAMPROW row) {
  if (setjmp(decoder.errors.jump) != 0) return false;
  return jpeg_read_scanlines(&decoder.state, &row, 1) == 1;
}

bool finish(Decoder& decoder) {
  if (setjmp(decoder.errors.jump) != 0) return false;
  return jpeg_finish_decompress(&decoder.state) == TRUE;
}

std::uint8_t multiply_255(std::uint32_t a, std::uint32_t b) {
  const std::uint32_t product = a * b + 128;
  return static_cast<std::uint8_t>(((product >> 8) + product) >> 8);
}

/// One stored row to RGB. Four components are inverted CMYK, as Adobe writes it.
void convert_row(const std::uint8_t* from, int components, std::int32_t width, std::uint8_t* to) {
  for (std::int32_t x = 0; x < width; ++x, from += components, to += 3) {
    if (components == 1) {
      to[0] = to[1] = to[2] = from[0];
    } else if (components == 3) {
      std::memcpy(to, from, 3);
    } else {
      const std::uint32_t white = from[3];  // 255 - key
      for (int c = 0; c < 3; ++c)
        to[c] = static_cast<std::uint8_t>(white - multiply_255(255u - from[c], white));
    }
  }
}

int orientation_of(const jpeg_decompress_struct& state) {
  constexpr std::size_t kPrefix = 6;  // "Exif\0\0"
  for (const jpeg_marker_struct* marker = state.marker_list; marker != nullptr;
       marker = marker->next) {
    if (marker->marker == JPEG_APP0 + 1 && marker->data_length > kPrefix &&
        std::memcmp(marker->data, "Exif\0\0", kPrefix) == 0) {
      return exif_orientation(
          std::as_bytes(std::span(marker->data + kPrefix, marker->data_length - kPrefix)));
    }
  }
  return 1;
}

}  // namespace

Result<Decoded> decode_jpeg(std::span<const std::byte> file, const ImageLimits& limits) {
  Decoder decoder;
  if (!start(decoder, reinterpret_cast<const unsigned char*>(file.data()), file.size())) {
    return fail(Code::kCorrupt, "damaged or truncated JPEG header");
  }
  GEM8_RETURN_IF_ERROR(check_size(decoder.state.image_width, decoder.state.image_height, limits));
  const int components = decoder.state.num_components;
  if (components != 1 && components != 3 && components != 4)
    return fail(Code::kUnsupported, "JPEG with {} components", components);

  Decoded decoded;
  decoded.width = static_cast<std::int32_t>(decoder.state.image_width);
  decoded.height = static_cast<std::int32_t>(decoder.state.image_height);
  decoded.orientation = orientation_of(decoder.state);
  if (!begin_pixels(decoder)) {
    if (decoder.errors.too_many_scans) {
      return fail(Code::kExhausted,
                  "progressive JPEG of {} x {} pixels with more scans than are read", decoded.width,
                  decoded.height);
    }
    return fail(Code::kCorrupt, "damaged JPEG data");
  }
  const std::size_t row_bytes = static_cast<std::size_t>(decoded.width) * 3;
  decoded.pixels.resize(row_bytes * static_cast<std::size_t>(decoded.height));
  std::vector<std::uint8_t> row(static_cast<std::size_t>(decoded.width) *
                                static_cast<std::size_t>(components));
  for (std::int32_t y = 0; y < decoded.height; ++y) {
    if (!read_row(decoder, row.data())) return fail(Code::kCorrupt, "damaged JPEG data");
    if (decoder.errors.truncated)
      return fail(Code::kCorrupt, "truncated JPEG data: {} of {} rows", y, decoded.height);
    convert_row(row.data(), components, decoded.width,
                decoded.pixels.data() + static_cast<std::size_t>(y) * row_bytes);
  }
  if (!finish(decoder) || decoder.errors.truncated)
    return fail(Code::kCorrupt, "truncated JPEG data");
  return decoded;
}

}  // namespace gem8::internal
