#pragma once

#include <string>
#include <vector>

#include "engine/request.h"
#include "foundation/result.h"
#include "server/http/exchange.h"
#include "server/openai/chat_request.h"

namespace gem8::app {

/// Turns the images of a request into what the engine wants: fetches, decodes, runs the image
/// tower, and replaces each image's placeholder in the ids by as many as it has soft tokens. The
/// seam for images; without one, requests with images are refused.
class ImageLoader {
 public:
  virtual ~ImageLoader() = default;

  /// `prompt` holds one placeholder for each image, in their order, and is rewritten. Errors name
  /// the part.
  virtual http::Task<Result<std::vector<SoftTokenBlock>>> load(
      const std::vector<openai::ImagePart>& images, std::vector<TokenId>& prompt) = 0;
};

}  // namespace gem8::app
