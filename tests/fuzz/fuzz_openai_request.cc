// The bodies of chat and plain completions: anything is either refused with a 4xx or checked.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "server/openai/chat_request.h"
#include "server/openai/completion_request.h"
#include "server/openai/error.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace gem8::openai;
  const std::string_view body(reinterpret_cast<const char*>(data), size);
  const auto chat = parse_chat_request(body, {});
  if (!chat && api_error(chat.error()).status / 100 != 4) std::abort();
  if (chat && (chat->messages.as_array().empty() || chat->generation.n < 1)) std::abort();
  const auto completion = parse_completion_request(body, {});
  if (!completion && api_error(completion.error()).status / 100 != 4) std::abort();
  if (completion && completion->prompts.empty()) std::abort();
  return 0;
}
