#pragma once

#include <vector>

#include "engine/request.h"
#include "formats/model_config.h"
#include "foundation/result.h"
#include "server/media/image_request.h"

namespace gem8::app {

/// Puts images into a rendered prompt: each placeholder is rewritten to as many as its image has
/// soft tokens. Errors: those of expand_images().
Result<std::vector<PromptImage>> place_images(std::vector<PreparedImage> images,
                                              const SpecialTokenIds& tokens,
                                              std::vector<TokenId>& prompt);

}  // namespace gem8::app
