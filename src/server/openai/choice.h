#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "engine/request.h"
#include "foundation/json/json.h"
#include "server/openai/generation.h"
#include "server/openai/stop_strings.h"
#include "text/output/output_parser.h"
#include "text/tokenizer/incremental_decoder.h"
#include "text/tokenizer/tokenizer.h"

namespace gem8::openai {

/// A piece of a tool call as it is sent; id and name come once, with the first piece.
struct CallPiece {
  std::size_t index = 0;
  std::optional<std::string> id;
  std::optional<std::string> name;
  std::string arguments;
};

struct ChoiceEnd {
  std::string finish_reason;  ///< "stop", "length", "tool_calls", "abort"
  Json stop_reason;           ///< the stop string, the stop token's id, or null
};

/// A sampled token with its log-probabilities, copied out of the engine's event.
struct ScoredToken {
  SampledToken token;
  std::vector<TokenLogprob> top;
  std::size_t text_offset = 0;  ///< of plain text: characters of the answer before this token's
};

/// What one token added to an answer.
struct ChoiceDelta {
  std::string reasoning;
  std::string content;
  std::vector<CallPiece> calls;
  /// The token, when ids or log-probabilities are asked for and its text may be seen.
  std::vector<ScoredToken> tokens;
  std::optional<ChoiceEnd> end;

  bool has_text() const { return !reasoning.empty() || !content.empty() || !calls.empty(); }
};

struct ChoiceOptions {
  /// Chat: structure is taken apart. Absent: plain text.
  std::optional<ParserOptions> parser;
  bool parallel_tool_calls = true;
  bool include_reasoning = true;
  std::function<std::string()> new_call_id;
};

/// Turns the tokens of one answer into text: reasoning, content, tool calls, stop strings. The same
/// for streams and whole answers: the joined deltas are the answer. Knows no socket.
class Choice {
 public:
  /// `tokenizer` outlives this.
  Choice(const Tokenizer& tokenizer, const Generation& generation, ChoiceOptions options);

  /// After the delta with an end nothing more is fed; the engine's request can be dropped then,
  /// even when it would go on.
  ChoiceDelta feed(const TokenEvent& event);

  std::int64_t n_tokens() const { return n_tokens_; }  ///< sampled, stop token included
  std::int64_t n_reasoning_tokens() const { return n_reasoning_tokens_; }

 private:
  void add(OutputDelta parsed, ChoiceDelta& delta);
  void end(const Finish& finish, ChoiceDelta& delta);

  IncrementalDecoder decoder_;
  std::optional<OutputParser> parser_;
  ChoiceOptions options_;
  StopStrings stop_;
  std::int64_t min_tokens_;
  bool include_stop_;
  bool keep_tokens_;
  std::int64_t n_tokens_ = 0;
  std::int64_t n_reasoning_tokens_ = 0;
  std::size_t n_characters_ = 0;  ///< of plain text
};

}  // namespace gem8::openai
