#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "foundation/json/json.h"
#include "foundation/token_id.h"
#include "text/tokenizer/tokenizer.h"

namespace gem8 {

/// A piece of one tool call. The first piece of an index carries the name; the pieces' arguments
/// joined are the call's JSON text.
struct ToolCallDelta {
  std::size_t index = 0;
  std::optional<std::string> name;
  std::string arguments;
};

/// What became final with one token. Joined over all deltas the three parts are the whole answer,
/// for every way of cutting the stream.
struct OutputDelta {
  std::string reasoning;
  std::string content;
  std::vector<ToolCallDelta> tool_calls;
  bool empty() const { return reasoning.empty() && content.empty() && tool_calls.empty(); }
};

enum class EndedBy {
  kStopToken,  ///< <turn|>, <|tool_response>, <eos>, or a stop string
  kLength      ///< the token limit
};
enum class FinishReason { kStop, kLength, kToolCalls };

struct ParserOptions {
  /// The prompt's ids, or enough of its end to hold the last <|turn>: they tell whether the model
  /// starts inside its thoughts.
  std::vector<TokenId> prompt_tail;
  /// The request's `tools` (OpenAI form) or null: their schemas type the arguments.
  Json tools;
  /// tool_choice "none": calls are recognised and dropped, so that their text does not show.
  bool drop_calls = false;
  /// Report a call that was cut off, its JSON closed artificially. The finish reason stays kLength.
  bool keep_partial_calls = false;
};

/// Splits what the model writes into reasoning, content and tool calls, one id at a time (chat
/// specification, section 3). Structure is recognised by id only: the same characters spelled with
/// ordinary tokens are text. One parser per choice of a request; the tokenizer outlives it. Not
/// thread-safe. It holds back at most: an incomplete character, a prefix of the thought label, one
/// line feed at the end of a thought, white space before a possible call, and an unfinished call.
class OutputParser {
 public:
  OutputParser(const Tokenizer& tokenizer, ParserOptions options);
  OutputParser(OutputParser&&) noexcept;
  OutputParser& operator=(OutputParser&&) noexcept;
  ~OutputParser();

  /// Stop tokens may be fed or not: they give no text.
  OutputDelta feed(TokenId id);
  /// After the last token.
  OutputDelta finish(EndedBy ended_by);
  /// After finish().
  FinishReason finish_reason() const;
  /// Whether the next token belongs to the model's thoughts (grammars and reasoning budgets ask).
  bool in_reasoning() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace gem8
