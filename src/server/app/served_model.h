#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "formats/model_config.h"
#include "foundation/result.h"
#include "foundation/token_id.h"
#include "server/openai/chat_request.h"
#include "server/openai/generation.h"
#include "text/tokenizer/tokenizer.h"

namespace gem8::app {

/// The model as the routes know it: its names and its way from requests to ids. The engine is
/// apart.
struct ServedModel {
  std::vector<std::string> names;  ///< at least one; the first stands in every answer
  std::string root;                ///< the checkpoint as the user named it
  std::int64_t max_model_len = 0;
  const Tokenizer* tokenizer = nullptr;
  std::optional<TokenId> bos;  ///< put in front of plain text prompts that do not begin with it
  openai::GenerationDefaults defaults;
  SpecialTokenIds media_tokens;  ///< what a prompt's text must not spell
  /// The prompt a chat request becomes. Errors: kInvalidArgument (what the template
  /// refuses, or what takes it beyond its limits), kUnsupported (there is none, or not for gem8).
  std::function<Result<std::vector<TokenId>>(const openai::ChatRequest& request)> render;
};

}  // namespace gem8::app
