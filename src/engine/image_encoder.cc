#include "engine/image_encoder.h"

#include <algorithm>
#include <memory>
#include <vector>

namespace gem8 {

bool begins_in(const PromptImage& image, const PlannedChunk& chunk) {
  const std::int64_t begin = chunk.sequence->n_computed;
  return begin <= image.position && image.position < begin + chunk.n_tokens;
}

Status ImageEncoder::encode(const PlannedChunk& chunk) {
  Sequence& sequence = *chunk.sequence;
  const std::vector<PromptImage>& images = sequence.request.images;
  std::vector<std::size_t> missing;  // one for each content
  const auto missing_like = [&](std::size_t i) {
    return std::ranges::find(
        missing, images[i].content_hash, [&](std::size_t j) -> const auto& {
          return images[j].content_hash;
        });
  };
  for (std::size_t i = 0; i < sequence.soft_tokens.size(); ++i) {
    auto& soft_tokens = sequence.soft_tokens[i];
    if (soft_tokens || !begins_in(images[i], chunk)) continue;
    asked_.fetch_add(1, std::memory_order_relaxed);
    soft_tokens = cache_.find(images[i].content_hash);
    if (soft_tokens || missing_like(i) != missing.end()) {
      cached_.fetch_add(1, std::memory_order_relaxed);
    } else {
      missing.push_back(i);
    }
  }
  for (std::size_t first = 0; first < missing.size();) {
    std::vector<const Patches*> pass;
    for (std::int64_t n_patches = 0; first + pass.size() < missing.size();) {
      const Patches& next = *images[missing[first + pass.size()]].patches;
      n_patches += next.count();
      if (!pass.empty() && n_patches > max_pass_patches_) break;
      pass.push_back(&next);
    }
    GEM8_TRY(std::vector<SoftTokenMatrix> encoded, runner_.encode(pass));
    for (std::size_t k = 0; k < pass.size(); ++k) {
      const std::size_t i = missing[first + k];
      const auto bytes = static_cast<std::size_t>(encoded[k].rows.rows * encoded[k].rows.stride) *
                         dtype_bytes(encoded[k].rows.dtype);
      sequence.soft_tokens[i] = std::make_shared<const SoftTokenMatrix>(std::move(encoded[k]));
      cache_.insert(images[i].content_hash, sequence.soft_tokens[i], bytes);
    }
    first += pass.size();
  }
  for (std::size_t i = 0; !missing.empty() && i < sequence.soft_tokens.size(); ++i) {
    auto& soft_tokens = sequence.soft_tokens[i];  // of a picture that is shown again
    if (!soft_tokens && begins_in(images[i], chunk))
      soft_tokens = sequence.soft_tokens[*missing_like(i)];
  }
  return {};
}

}  // namespace gem8
