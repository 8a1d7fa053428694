#include "text/chat/image_tokens.h"

#include <algorithm>

namespace gem8 {

Result<std::vector<TokenId>> expand_images(std::span<const TokenId> ids,
                                           std::span<const std::size_t> n_soft_tokens,
                                           const ImageTokens& tokens) {
  const auto n_placeholders = static_cast<std::size_t>(std::ranges::count(ids, tokens.image));
  if (n_placeholders != n_soft_tokens.size()) {
    return fail(Code::kInvalidArgument,
                "the prompt has {} image placeholders, the request {} images", n_placeholders,
                n_soft_tokens.size());
  }
  std::vector<TokenId> out;
  std::size_t image = 0;
  for (const TokenId id : ids) {
    if (id != tokens.image) {
      out.push_back(id);
      continue;
    }
    out.push_back(tokens.begin);
    out.insert(out.end(), n_soft_tokens[image++], tokens.image);
    out.push_back(tokens.end);
  }
  return out;
}

}  // namespace gem8
