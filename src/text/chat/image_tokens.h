#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "foundation/result.h"
#include "foundation/token_id.h"

namespace gem8 {

struct ImageTokens {
  TokenId begin;  ///< <|image>
  TokenId image;  ///< <|image|>: the placeholder, and each soft token
  TokenId end;    ///< <image|>
};

/// Each placeholder in `ids` becomes begin, n_soft_tokens[k] times image, end: k counts
/// placeholders from the left. Errors: kInvalidArgument when there are more or fewer placeholders
/// than images.
Result<std::vector<TokenId>> expand_images(std::span<const TokenId> ids,
                                           std::span<const std::size_t> n_soft_tokens,
                                           const ImageTokens& tokens);

}  // namespace gem8
