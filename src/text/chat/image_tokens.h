#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "formats/model_config.h"
#include "foundation/result.h"
#include "foundation/token_id.h"

namespace gem8 {

/// Consecutive placeholder tokens of a prompt: where one image's soft tokens go.
struct PlaceholderRun {
  std::int64_t position = 0;  ///< of the first
  std::int64_t n_tokens = 0;
};

/// A prompt with room for its images.
struct ExpandedPrompt {
  std::vector<TokenId> ids;
  std::vector<PlaceholderRun> images;  ///< in order, one each
};

/// Each image placeholder of a rendered prompt becomes begin-of-image, one placeholder per soft
/// token, end-of-image; `soft_tokens` has the number for each image in order.
///
/// A chat template writes one placeholder per image part, so any other count, and any begin, end,
/// audio or video marker, comes from text that spells such a token: kInvalidArgument. Also for
/// images given to a model that has no such tokens. Source: the reference processor's replacement
/// of image tokens.
Result<ExpandedPrompt> expand_images(std::span<const TokenId> ids,
                                     std::span<const std::int64_t> soft_tokens,
                                     const SpecialTokenIds& tokens);

/// Where the images are in ids that have room for them already, as expand_images() leaves them: the
/// first image takes the first `soft_tokens[0]` placeholders, and so on. Markers are not looked at.
/// Errors: kInvalidArgument when a run is shorter than its image, or placeholders are left over;
/// the message counts images from 0.
Result<std::vector<PlaceholderRun>> find_images(std::span<const TokenId> ids,
                                                std::span<const std::int64_t> soft_tokens,
                                                const SpecialTokenIds& tokens);

}  // namespace gem8
