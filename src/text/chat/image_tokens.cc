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

Result<std::vector<PlaceholderRun>> find_images(std::span<const TokenId> ids,
                                                std::span<const std::int64_t> soft_tokens,
                                                const SpecialTokenIds& tokens) {
  std::vector<PlaceholderRun> runs;
  const auto n_ids = std::ssize(ids);
  const auto is_placeholder = [&](std::int64_t i) {
    return tokens.image && ids[static_cast<std::size_t>(i)] == TokenId{*tokens.image};
  };
  for (std::int64_t i = 0; i < n_ids;) {
    if (!is_placeholder(i)) {
      ++i;
      continue;
    }
    if (runs.size() == soft_tokens.size()) {
      return fail(Code::kInvalidArgument,
                  "placeholders at {} of the ids are left over after {} images", i, runs.size());
    }
    const std::int64_t wanted = soft_tokens[runs.size()];
    std::int64_t found = 0;
    while (found < wanted && i + found < n_ids && is_placeholder(i + found)) ++found;
    if (found < wanted) {
      return fail(Code::kInvalidArgument,
                  "image {}: found {} placeholders at {} of the ids, wanted {}: one for each soft "
                  "token",
                  runs.size(), found, i, wanted);
    }
    runs.push_back({i, found});
    i += found;
  }
  if (runs.size() < soft_tokens.size()) {
    return fail(Code::kInvalidArgument, "found placeholders for {} images in the ids, wanted {}",
                runs.size(), soft_tokens.size());
  }
  return runs;
}

}  // namespace gem8
