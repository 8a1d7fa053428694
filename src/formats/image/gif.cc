#include <gif_lib.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <memory>

#include "formats/image/decoders.h"

namespace gem8::internal {
namespace {

struct Source {
  const std::byte* data = nullptr;
  std::size_t left = 0;
};

int read_bytes(GifFileType* gif, GifByteType* to, int n) {
  auto* source = static_cast<Source*>(gif->UserData);
  const std::size_t count = std::min(source->left, static_cast<std::size_t>(n));
  std::memcpy(to, source->data, count);
  source->data += count;
  source->left -= count;
  return static_cast<int>(count);
}

struct CloseGif {
  void operator()(GifFileType* gif) const {
    int error = 0;
    DGifCloseFile(gif, &error);
  }
};

constexpr int kNoTransparency = -1;

/// Reads records up to the first picture's descriptor; gives the transparent palette index named on
/// the way.
Result<int> find_first_frame(GifFileType* gif) {
  int transparent = kNoTransparency;
  for (;;) {
    GifRecordType record = UNDEFINED_RECORD_TYPE;
    if (DGifGetRecordType(gif, &record) == GIF_ERROR)
      return fail(Code::kCorrupt, "damaged or truncated GIF");
    if (record == TERMINATE_RECORD_TYPE) return fail(Code::kCorrupt, "GIF without a picture");
    if (record == IMAGE_DESC_RECORD_TYPE) {
      if (DGifGetImageDesc(gif) == GIF_ERROR)
        return fail(Code::kCorrupt, "damaged or truncated GIF");
      return transparent;
    }
    int kind = 0;
    GifByteType* block = nullptr;
    if (DGifGetExtension(gif, &kind, &block) == GIF_ERROR)
      return fail(Code::kCorrupt, "damaged or truncated GIF");
    while (block != nullptr) {
      GraphicsControlBlock control;
      if (kind == GRAPHICS_EXT_FUNC_CODE &&
          DGifExtensionToGCB(block[0], block + 1, &control) == GIF_OK) {
        transparent = control.TransparentColor;
      }
      if (DGifGetExtensionNext(gif, &block) == GIF_ERROR)
        return fail(Code::kCorrupt, "damaged or truncated GIF");
    }
  }
}

}  // namespace

Result<Decoded> decode_gif(std::span<const std::byte> file, const ImageLimits& limits) {
  Source source{file.data(), file.size()};
  int error = 0;
  const std::unique_ptr<GifFileType, CloseGif> gif(DGifOpen(&source, read_bytes, &error));
  if (gif == nullptr) return fail(Code::kCorrupt, "damaged or truncated GIF header");
  GEM8_RETURN_IF_ERROR(check_size(gif->SWidth, gif->SHeight, limits));
  GEM8_TRY(const int transparent, find_first_frame(gif.get()));
  const GifImageDesc& frame = gif->Image;
  GEM8_RETURN_IF_ERROR(check_size(frame.Width, frame.Height, limits));
  if (frame.Left < 0 || frame.Top < 0 || frame.Left + frame.Width > gif->SWidth ||
      frame.Top + frame.Height > gif->SHeight) {
    return fail(Code::kCorrupt, "GIF frame of {} x {} at ({}, {}) outside its {} x {} canvas",
                frame.Width, frame.Height, frame.Left, frame.Top, gif->SWidth, gif->SHeight);
  }
  const ColorMapObject* colors = frame.ColorMap != nullptr ? frame.ColorMap : gif->SColorMap;
  if (colors == nullptr) return fail(Code::kCorrupt, "GIF frame without a palette");

  Decoded decoded;
  decoded.width = gif->SWidth;
  decoded.height = gif->SHeight;
  decoded.channels = 4;
  // Canvas that the frame does not cover stays transparent.
  decoded.pixels.resize(static_cast<std::size_t>(decoded.width) *
                        static_cast<std::size_t>(decoded.height) * 4);
  struct Pass {
    int first;
    int step;
  };
  constexpr std::array kInterlaced{Pass{0, 8}, Pass{4, 8}, Pass{2, 4}, Pass{1, 2}};
  constexpr std::array kPlain{Pass{0, 1}};
  const std::span<const Pass> passes =
      frame.Interlace ? std::span<const Pass>(kInterlaced) : std::span<const Pass>(kPlain);
  std::vector<GifPixelType> row(static_cast<std::size_t>(frame.Width));
  for (const Pass& pass : passes) {
    for (int y = pass.first; y < frame.Height; y += pass.step) {
      if (DGifGetLine(gif.get(), row.data(), frame.Width) == GIF_ERROR)
        return fail(Code::kCorrupt, "damaged or truncated GIF data");
      std::uint8_t* to = &decoded.pixels[(static_cast<std::size_t>(frame.Top + y) *
                                              static_cast<std::size_t>(decoded.width) +
                                          static_cast<std::size_t>(frame.Left)) *
                                         4];
      for (const GifPixelType index : row) {
        const GifColorType color =
            index < colors->ColorCount ? colors->Colors[index] : GifColorType{0, 0, 0};
        to[0] = color.Red;
        to[1] = color.Green;
        to[2] = color.Blue;
        to[3] = index == transparent ? 0 : 255;
        to += 4;
      }
    }
  }
  return decoded;
}

}  // namespace gem8::internal
