#include "server/openai/choice.h"

#include <utility>

#include "text/unicode/utf8.h"

namespace gem8::openai {

Choice::Choice(const Tokenizer& tokenizer, const Generation& generation, ChoiceOptions options)
    : decoder_(tokenizer, generation.skip_special_tokens),
      options_(std::move(options)),
      stop_(generation.stop, generation.include_stop_in_output),
      min_tokens_(generation.min_tokens),
      include_stop_(generation.include_stop_in_output),
      keep_tokens_(generation.return_token_ids || generation.sampling.n_logprobs.has_value()) {
  if (options_.parser) parser_.emplace(tokenizer, std::move(*options_.parser));
}

void Choice::add(OutputDelta parsed, ChoiceDelta& delta) {
  if (options_.include_reasoning) delta.reasoning += parsed.reasoning;
  // Stop strings apply to the content only. Before min_tokens they do not count.
  delta.content +=
      n_tokens_ < min_tokens_ ? stop_.flush() + parsed.content : stop_.feed(parsed.content);
  for (ToolCallDelta& call : parsed.tool_calls) {
    if (call.index > 0 && !options_.parallel_tool_calls) continue;
    CallPiece piece{
        .index = call.index, .name = std::move(call.name), .arguments = std::move(call.arguments)};
    if (piece.name) piece.id = options_.new_call_id();
    delta.calls.push_back(std::move(piece));
  }
}

void Choice::end(const Finish& finish, ChoiceDelta& delta) {
  const EndedBy ended_by =
      finish.reason == EndReason::kStop ? EndedBy::kStopToken : EndedBy::kLength;
  OutputDelta rest;
  if (parser_) {
    rest = parser_->finish(ended_by);
  } else {
    rest.content = decoder_.flush();
  }
  add(std::move(rest), delta);
  delta.content += stop_.flush();
  ChoiceEnd end;
  switch (finish.reason) {
    case EndReason::kStop:
      end.finish_reason =
          parser_ && parser_->finish_reason() == FinishReason::kToolCalls ? "tool_calls" : "stop";
      if (finish.stop_token) end.stop_reason = value_of(*finish.stop_token);
      break;
    case EndReason::kLength:
      end.finish_reason = "length";
      break;
    case EndReason::kAbort:
    case EndReason::kError:
      end.finish_reason = "abort";
      break;
  }
  delta.end = std::move(end);
}

ChoiceDelta Choice::feed(const TokenEvent& event) {
  ChoiceDelta delta;
  if (event.token) {
    ++n_tokens_;
    const bool is_stop = event.finish && event.finish->reason == EndReason::kStop;
    const bool was_reasoning = parser_ && parser_->in_reasoning();
    const std::size_t text_offset = n_characters_;
    if (!is_stop || include_stop_) {
      OutputDelta parsed;
      if (parser_) {
        parsed = parser_->feed(event.token->id);
      } else {
        parsed.content = decoder_.feed(event.token->id);
        n_characters_ += utf8::length(parsed.content);
      }
      add(std::move(parsed), delta);
    }
    const bool is_reasoning = was_reasoning || (parser_ && parser_->in_reasoning());
    if (is_reasoning) ++n_reasoning_tokens_;
    // Ids and log-probabilities spell the thoughts as well as their text does.
    if (keep_tokens_ && (!is_reasoning || options_.include_reasoning))
      delta.tokens.push_back({*event.token, event.top, text_offset});
  }
  if (event.finish && !stop_.matched()) end(*event.finish, delta);
  if (stop_.matched()) delta.end = ChoiceEnd{"stop", *stop_.matched()};
  return delta;
}

}  // namespace gem8::openai
