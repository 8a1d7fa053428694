#include "text/chat/image_tokens.h"

#include <algorithm>

namespace gem8 {

Result<ExpandedPrompt> expand_images(std::span<const TokenId> ids,
                                     std::span<const std::int64_t> soft_tokens,
                                     const SpecialTokenIds& tokens) {
  const bool takes_images = tokens.image && tokens.boi && tokens.eoi;
  if (!soft_tokens.empty() && !takes_images) {
    return fail(Code::kInvalidArgument, "this model takes no images");
  }
  for (const auto& marker :
       {tokens.boi, tokens.eoi, tokens.boa, tokens.audio, tokens.eoa, tokens.video}) {
    if (marker && std::ranges::find(ids, TokenId{*marker}) != ids.end()) {
      return fail(Code::kInvalidArgument,
                  "the text spells a token that marks images, audio or video");
    }
  }
  const auto found =
      tokens.image ? static_cast<std::size_t>(std::ranges::count(ids, TokenId{*tokens.image})) : 0;
  if (found > soft_tokens.size()) {
    return fail(Code::kInvalidArgument,
                "{} image placeholders in the prompt for {} images: the text spells the token that "
                "stands for an image",
                found, soft_tokens.size());
  }
  if (found < soft_tokens.size()) {
    return fail(Code::kInvalidArgument,
                "{} image placeholders in the prompt for {} images: the chat template leaves "
                "images out where they stand",
                found, soft_tokens.size());
  }

  ExpandedPrompt prompt;
  prompt.images.reserve(found);
  for (const TokenId id : ids) {
    if (!tokens.image || id != TokenId{*tokens.image}) {
      prompt.ids.push_back(id);
      continue;
    }
    const std::int64_t n = soft_tokens[prompt.images.size()];
    prompt.ids.push_back(TokenId{*tokens.boi});
    prompt.images.push_back({static_cast<std::int64_t>(prompt.ids.size()), n});
    prompt.ids.insert(prompt.ids.end(), static_cast<std::size_t>(n), id);
    prompt.ids.push_back(TokenId{*tokens.eoi});
  }
  return prompt;
}

}  // namespace gem8
