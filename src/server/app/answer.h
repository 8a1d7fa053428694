#pragma once

#include <optional>
#include <string>
#include <vector>

#include "server/app/api_call.h"
#include "server/openai/choice.h"
#include "server/openai/reply.h"

namespace gem8::app {

/// What a request asks the engine for.
struct Api::Answers {
  std::vector<std::vector<TokenId>> prompts;
  std::vector<PromptImage> images;  ///< of the one prompt of a chat
  openai::Generation generation;
  openai::ChoiceOptions choice;
  std::string id;
};

/// How the reply is spelled: chat or plain completions.
class Api::Writer {
 public:
  virtual ~Writer() = default;
  virtual std::string begin(std::size_t index, const std::optional<openai::Usage>& usage) = 0;
  virtual std::string delta(std::size_t index, const openai::ChoiceDelta& delta,
                            const std::optional<openai::Usage>& usage) = 0;
  virtual std::string usage(const openai::Usage& usage) = 0;
  virtual Json whole(std::vector<openai::WholeChoice> choices, const openai::Usage& usage) = 0;
  virtual bool counts_reasoning() const = 0;
};

}  // namespace gem8::app
