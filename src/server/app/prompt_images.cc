#include "server/app/prompt_images.h"

#include <utility>

#include "text/chat/image_tokens.h"

namespace gem8::app {

Result<std::vector<PromptImage>> place_images(std::vector<PreparedImage> images,
                                              const SpecialTokenIds& tokens,
                                              std::vector<TokenId>& prompt) {
  std::vector<std::int64_t> counts;
  for (const PreparedImage& image : images) counts.push_back(image.patches->soft_tokens());
  GEM8_TRY(ExpandedPrompt expanded, expand_images(prompt, counts, tokens));
  prompt = std::move(expanded.ids);
  std::vector<PromptImage> placed;
  for (std::size_t i = 0; i < images.size(); ++i) {
    placed.push_back({.position = expanded.images[i].position,
                      .patches = std::move(images[i].patches),
                      .content_hash = std::move(images[i].content_hash)});
  }
  return placed;
}

}  // namespace gem8::app
