#include "quantize/token_sample.h"

#include <algorithm>

namespace gem8 {

void cut_sample(TokenSample& sample, std::size_t max_tokens) {
  if (sample.tokens.size() <= max_tokens) return;
  auto n = static_cast<std::int64_t>(max_tokens);
  for (const SampleImage& image : sample.images) {
    const std::int64_t begin = image.position - 1, end = image.end() + 1;  // with its frame
    if (begin < n && n < end) n = begin;
  }
  sample.tokens.resize(static_cast<std::size_t>(std::max<std::int64_t>(0, n)));
  std::erase_if(sample.images, [n](const SampleImage& image) { return image.position >= n; });
}

std::vector<SamplePiece> pieces_of(const TokenSample& sample, std::size_t max_text_tokens) {
  std::vector<SamplePiece> pieces;
  std::size_t at = 0;
  const auto add_text = [&](std::size_t end) {
    while (at < end) {
      const std::size_t count = std::min(max_text_tokens, end - at);
      pieces.push_back({.first = at, .count = count});
      at += count;
    }
  };
  for (const SampleImage& image : sample.images) {
    add_text(static_cast<std::size_t>(image.position));
    pieces.push_back(
        {.first = at, .count = static_cast<std::size_t>(image.n_tokens), .image = &image});
    at += pieces.back().count;
  }
  add_text(sample.tokens.size());
  return pieces;
}

Result<Patches> read_patches(const SampleImage& image) {
  if (!image.file.empty()) return read_image_file(image.file, image.options);
  GEM8_TRY(const Image picture, decode_image(*image.bytes, image.options.alpha));
  return preprocess_image(picture, image.options.soft_tokens);
}

Result<SoftTokenMatrix> encode_image(VisionTower& tower, const SampleImage& image) {
  GEM8_TRY(const Patches patches, read_patches(image));
  const Patches* const one[] = {&patches};
  GEM8_TRY(SoftTokenMatrix soft, tower.encode(one));
  if (soft.rows.rows != image.n_tokens) {
    return fail(Code::kCorrupt, "{}: {} soft tokens, it had {} before", image.file.string(),
                soft.rows.rows, image.n_tokens);
  }
  return soft;
}

}  // namespace gem8
