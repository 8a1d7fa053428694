#include <webp/decode.h>
#include <webp/demux.h>

#include <cstring>
#include <memory>

#include "formats/image/decoders.h"

namespace gem8::internal {
namespace {

struct FreeDemuxer {
  void operator()(WebPDemuxer* demuxer) const { WebPDemuxDelete(demuxer); }
};
struct FreeAnimation {
  void operator()(WebPAnimDecoder* decoder) const { WebPAnimDecoderDelete(decoder); }
};

int orientation_of(const WebPData& data) {
  const std::unique_ptr<WebPDemuxer, FreeDemuxer> demuxer(WebPDemux(&data));
  if (demuxer == nullptr) return 1;
  WebPChunkIterator chunk;
  if (WebPDemuxGetChunk(demuxer.get(), "EXIF", 1, &chunk) == 0) return 1;
  auto bytes = std::as_bytes(std::span(chunk.chunk.bytes, chunk.chunk.size));
  if (bytes.size() > 6 && std::memcmp(bytes.data(), "Exif\0\0", 6) == 0) bytes = bytes.subspan(6);
  const int orientation = exif_orientation(bytes);
  WebPDemuxReleaseChunkIterator(&chunk);
  return orientation;
}

Result<std::vector<std::uint8_t>> first_frame(const WebPData& data, std::size_t n_bytes) {
  WebPAnimDecoderOptions options;
  if (WebPAnimDecoderOptionsInit(&options) == 0)
    return fail(Code::kInternal, "libwebp of another version");
  options.color_mode = MODE_RGBA;
  const std::unique_ptr<WebPAnimDecoder, FreeAnimation> decoder(
      WebPAnimDecoderNew(&data, &options));
  std::uint8_t* pixels = nullptr;
  int timestamp = 0;
  if (decoder == nullptr || WebPAnimDecoderGetNext(decoder.get(), &pixels, &timestamp) == 0) {
    return fail(Code::kCorrupt, "damaged or truncated WebP animation");
  }
  return std::vector<std::uint8_t>(pixels, pixels + n_bytes);
}

}  // namespace

Result<Decoded> decode_webp(std::span<const std::byte> file, const ImageLimits& limits) {
  const auto* bytes = reinterpret_cast<const std::uint8_t*>(file.data());
  WebPBitstreamFeatures features;
  if (WebPGetFeatures(bytes, file.size(), &features) != VP8_STATUS_OK)
    return fail(Code::kCorrupt, "damaged or truncated WebP header");
  GEM8_RETURN_IF_ERROR(check_size(features.width, features.height, limits));

  const WebPData data{bytes, file.size()};
  Decoded decoded;
  decoded.width = features.width;
  decoded.height = features.height;
  decoded.channels = features.has_alpha != 0 || features.has_animation != 0 ? 4 : 3;
  decoded.orientation = orientation_of(data);
  const std::size_t stride =
      static_cast<std::size_t>(decoded.width) * static_cast<std::size_t>(decoded.channels);
  const std::size_t n_bytes = stride * static_cast<std::size_t>(decoded.height);
  if (features.has_animation != 0) {
    GEM8_TRY(decoded.pixels, first_frame(data, n_bytes));
    return decoded;
  }
  decoded.pixels.resize(n_bytes);
  const std::uint8_t* done = decoded.channels == 4
                                 ? WebPDecodeRGBAInto(bytes, file.size(), decoded.pixels.data(),
                                                      n_bytes, static_cast<int>(stride))
                                 : WebPDecodeRGBInto(bytes, file.size(), decoded.pixels.data(),
                                                     n_bytes, static_cast<int>(stride));
  if (done == nullptr) return fail(Code::kCorrupt, "damaged or truncated WebP data");
  return decoded;
}

}  // namespace gem8::internal
