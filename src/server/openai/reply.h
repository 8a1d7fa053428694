#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "foundation/json/json.h"
#include "server/openai/choice.h"
#include "server/openai/generation.h"
#include "text/tokenizer/tokenizer.h"

namespace gem8::openai {

struct Usage {
  std::int64_t prompt_tokens = 0;
  std::int64_t completion_tokens = 0;
  std::int64_t cached_tokens = 0;
  std::optional<std::int64_t> reasoning_tokens;  ///< chat only
};

/// What every body or chunk of one request says about itself.
struct ReplyHead {
  std::string id;  ///< "chatcmpl-...", "cmpl-..."
  std::int64_t created = 0;
  std::string model;  ///< the first served name
  std::string fingerprint;
};

/// An answer put together: the joined deltas of a Choice.
struct WholeChoice {
  struct Call {
    std::string id;
    std::string name;
    std::string arguments;
  };
  std::string reasoning;
  std::string content;
  std::vector<Call> calls;
  std::vector<ScoredToken> tokens;
  ChoiceEnd end;

  void add(ChoiceDelta delta);
};

struct ReplyOptions {
  bool token_ids = false;      ///< return_token_ids
  bool tokens_as_ids = false;  ///< log-probability tokens as "token_id:N"
  std::optional<std::int32_t> n_logprobs;

  /// Those that a request asks for.
  static ReplyOptions of(const Generation& generation) {
    return {generation.return_token_ids, generation.tokens_as_ids, generation.sampling.n_logprobs};
  }
};

/// One event: "data: {json}\n\n".
std::string sse_event(const Json& value);
inline constexpr std::string_view kSseDone = "data: [DONE]\n\n";
inline constexpr std::string_view kSseComment = ": keep-alive\n\n";

Json usage_body(const Usage& usage);
/// [2,105,...]
Json ids_body(std::span<const TokenId> ids);

/// Bodies and chunks of chat completions. Nulls stand where vLLM has them; both `reasoning` and
/// `reasoning_content` are sent.
class ChatReply {
 public:
  /// `tokenizer` outlives this.
  ChatReply(const Tokenizer& tokenizer, ReplyHead head, ReplyOptions options)
      : tokenizer_(tokenizer), head_(std::move(head)), options_(options) {}

  Json whole(const std::vector<WholeChoice>& choices, const Usage& usage,
             const Json& prompt_token_ids) const;

  /// Chunks, as events. `usage` is given only where each chunk carries it.
  std::string role_chunk(std::size_t index, const std::optional<Usage>& usage,
                         const Json& prompt_token_ids) const;
  /// The events of one delta: reasoning and content apart, the end last.
  std::string delta_chunks(std::size_t index, const ChoiceDelta& delta,
                           const std::optional<Usage>& usage, bool fingerprint_at_end) const;
  std::string usage_chunk(const Usage& usage) const;

  Json logprobs(const std::vector<ScoredToken>& tokens) const;

 private:
  Json chunk(Json choices, const std::optional<Usage>& usage) const;
  Json token_entry(TokenId id, float logprob) const;

  const Tokenizer& tokenizer_;
  ReplyHead head_;
  ReplyOptions options_;
};

/// Bodies and chunks of plain completions.
class CompletionReply {
 public:
  CompletionReply(const Tokenizer& tokenizer, ReplyHead head, ReplyOptions options)
      : tokenizer_(tokenizer), head_(std::move(head)), options_(options) {}

  /// `prompt_token_ids`: of each choice; lists, or null.
  Json whole(const std::vector<WholeChoice>& choices, const Usage& usage,
             std::vector<Json> prompt_token_ids) const;
  /// Empty when the delta says nothing. `prompt_token_ids`: null but for a choice's first chunk.
  std::string delta_chunk(std::size_t index, const ChoiceDelta& delta,
                          const std::optional<Usage>& usage, Json prompt_token_ids) const;
  std::string usage_chunk(const Usage& usage) const;

  Json logprobs(const std::vector<ScoredToken>& tokens) const;

 private:
  Json body(Json choices) const;

  const Tokenizer& tokenizer_;
  ReplyHead head_;
  ReplyOptions options_;
};

}  // namespace gem8::openai
