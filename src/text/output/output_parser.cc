#include "text/output/output_parser.h"

#include <algorithm>

#include "text/output/call_arguments.h"
#include "text/tokenizer/incremental_decoder.h"
#include "text/unicode/python_text.h"

namespace gem8 {
namespace {

constexpr std::string_view kLabel = "thought\n";
constexpr std::string_view kCallWord = "call:";

}  // namespace

struct OutputParser::State {
  enum class Mode { kContent, kReasoning, kCall };

  State(const Tokenizer& vocabulary, ParserOptions given)
      : tokenizer(vocabulary), options(std::move(given)), decoder(vocabulary) {
    const auto id = [&](std::string_view text) {
      return vocabulary.token_id(text).value_or(static_cast<TokenId>(-1));
    };
    channel_open = id("<|channel>");
    channel_close = id("<channel|>");
    call_open = id("<|tool_call>");
    call_close = id("<tool_call|>");
    delimiter = id("<|\"|>");
    turn_open = id("<|turn>");
    response_open = id("<|tool_response>");
    if (options.tools.is_array()) {
      for (const Json& tool : options.tools.as_array()) {
        const Json* function = tool.find("function");
        const Json* name = (function != nullptr ? *function : tool).find("name");
        if (name != nullptr && name->is_string())
          bare_calls.push_back(std::string(kCallWord) + name->as_string() + "{");
      }
    }
    start_from_prompt();
  }

  /// Where the model starts (chat specification 3.2).
  void start_from_prompt() {
    may_lack_opener = true;
    for (std::size_t i = options.prompt_tail.size(); i > 0; --i) {
      const TokenId id = options.prompt_tail[i - 1];
      if (id == channel_open) {
        mode = Mode::kReasoning;
        label_pending = true;
        may_lack_opener = false;
        return;
      }
      if (id == channel_close) may_lack_opener = false;
      if (id == channel_close || id == call_open || id == turn_open || id == response_open) return;
    }
  }

  // --- text into the mode that is on ---

  void add_text(std::string_view text, OutputDelta& out) {
    if (text.empty()) return;
    switch (mode) {
      case Mode::kContent:
        add_content(text, out);
        break;
      case Mode::kReasoning:
        add_reasoning(text, out);
        break;
      case Mode::kCall:
        call_text += text;
        break;
    }
  }

  void add_reasoning(std::string_view text, OutputDelta& out) {
    if (!label_pending) return emit_reasoning(text, out);
    held_label += text;
    if (held_label.size() < kLabel.size() && kLabel.starts_with(held_label)) return;
    label_pending = false;
    std::string_view rest = held_label;
    if (rest.starts_with(kLabel)) rest.remove_prefix(kLabel.size());
    const std::string kept(rest);
    held_label.clear();
    emit_reasoning(kept, out);
  }

  void emit_reasoning(std::string_view text, OutputDelta& out) {
    if (text.empty()) return;
    if (held_line_feed) out.reasoning += '\n';
    held_line_feed = text.ends_with('\n');
    if (held_line_feed) text.remove_suffix(1);
    out.reasoning += text;
  }

  void add_content(std::string_view text, OutputDelta& out) {
    if (may_lack_opener) {  // thoughts whose opening token was lost begin with the label
      held_label += text;
      if (held_label.size() < kLabel.size() && kLabel.starts_with(held_label)) return;
      may_lack_opener = false;
      const std::string held = std::exchange(held_label, {});
      if (held.starts_with(kLabel)) {
        mode = Mode::kReasoning;
        return emit_reasoning(std::string_view(held).substr(kLabel.size()), out);
      }
      return add_lines(held, out);
    }
    add_lines(text, out);
  }

  /// A line that begins with "call:" and a declared function's name and brace is a call whose
  /// opening token was lost.
  void add_lines(std::string_view text, OutputDelta& out) {
    if (bare_calls.empty()) return emit_content(text, out);
    held_line += text;
    while (!held_line.empty()) {
      if (at_line_start) {
        const bool may_grow = std::ranges::any_of(bare_calls, [&](const std::string& opener) {
          return opener.size() > held_line.size() && opener.starts_with(held_line);
        });
        if (may_grow) return;
        if (std::ranges::any_of(bare_calls, [&](const std::string& opener) {
              return held_line.starts_with(opener);
            })) {
          begin_call(true);
          call_text = std::exchange(held_line, {});
          return;
        }
      }
      const std::size_t end = held_line.find('\n');
      at_line_start = end != std::string::npos;
      const std::size_t n = at_line_start ? end + 1 : held_line.size();
      emit_content(std::string_view(held_line).substr(0, n), out);
      held_line.erase(0, n);
    }
  }

  void emit_content(std::string_view text, OutputDelta& out) {
    if (blank_so_far) {
      held_blank += text;
      if (python::strip(held_blank).empty()) return;
      blank_so_far = false;
      out.content += std::exchange(held_blank, {});
      return;
    }
    out.content += text;
  }

  // --- structure ---

  /// What is held only because it might have become something else is what it looks like.
  void settle(OutputDelta& out) {
    add_text(decoder.flush(), out);
    if (mode != Mode::kContent) return;
    may_lack_opener = false;
    std::string held = std::exchange(held_label, {});
    if (!held.empty()) add_lines(held, out);
    if (mode == Mode::kContent && !held_line.empty())
      emit_content(std::exchange(held_line, {}), out);
  }

  void end_reasoning(OutputDelta& out) {
    if (!held_label.empty() && kLabel.substr(0, kLabel.size() - 1) != held_label)
      emit_reasoning(held_label, out);
    held_label.clear();
    label_pending = false;
    held_line_feed = false;  // one line feed belongs to the closing token
  }

  void begin_content() {
    mode = Mode::kContent;
    blank_so_far = true;
    at_line_start = true;
  }

  void begin_call(bool bare) {
    mode = Mode::kCall;
    call_is_bare = bare;
    call_text.clear();
    held_blank.clear();  // white space between calls, or before the first
  }

  void end_call(bool complete, OutputDelta& out) {
    auto call = parse_call(call_text, options.tools, complete);
    call_text.clear();
    begin_content();
    if (!call || options.drop_calls) return;
    out.tool_calls.push_back({n_calls++, std::move(call->name), std::move(call->arguments)});
  }

  void structural(TokenId id, OutputDelta& out) {
    settle(out);
    if (id == channel_open) {
      if (mode == Mode::kCall) return;
      if (mode == Mode::kContent) at_line_start = true;
      mode = Mode::kReasoning;
      label_pending = true;
    } else if (id == channel_close) {
      if (mode != Mode::kReasoning) return;
      end_reasoning(out);
      begin_content();
    } else if (id == call_open) {
      if (mode == Mode::kReasoning) end_reasoning(out);
      begin_call(false);
    } else if (id == call_close) {
      if (mode == Mode::kCall) end_call(true, out);
    } else if (id == delimiter && mode == Mode::kCall) {
      call_text += kDelimiter;
    }
  }

  void finish(EndedBy ended_by, OutputDelta& out) {
    settle(out);
    if (mode == Mode::kReasoning && held_line_feed) out.reasoning += '\n';
    if (mode == Mode::kCall) finish_call(ended_by, out);
    if (n_calls == 0 && mode == Mode::kContent) out.content += std::exchange(held_blank, {});
    reason = ended_by == EndedBy::kLength ? FinishReason::kLength
             : n_calls > 0                ? FinishReason::kToolCalls
                                          : FinishReason::kStop;
  }

  void finish_call(EndedBy ended_by, OutputDelta& out) {
    const auto call = parse_call(call_text, options.tools, false);
    const bool whole = call && call->closed && ended_by == EndedBy::kStopToken;
    if (!whole && call_is_bare) {  // it was prose after all
      std::string text = std::exchange(call_text, {});
      std::erase(text, kDelimiter);
      begin_content();
      return emit_content(text, out);
    }
    if (whole || (options.keep_partial_calls && call)) end_call(false, out);
  }

  const Tokenizer& tokenizer;
  ParserOptions options;
  IncrementalDecoder decoder;
  TokenId channel_open, channel_close, call_open, call_close, delimiter, turn_open, response_open;
  std::vector<std::string> bare_calls;  ///< "call:NAME{" of every declared function

  Mode mode = Mode::kContent;
  bool label_pending = false;    ///< in reasoning: its text has not begun
  bool may_lack_opener = false;  ///< in content: nothing came yet, and the model may be thinking
  std::string held_label;        ///< a prefix of the label, so far
  bool held_line_feed = false;
  bool at_line_start = true;
  std::string held_line;  ///< a prefix of a bare call, so far
  bool blank_so_far = true;
  std::string held_blank;
  bool call_is_bare = false;
  std::string call_text;
  std::size_t n_calls = 0;
  FinishReason reason = FinishReason::kStop;
};

OutputParser::OutputParser(const Tokenizer& tokenizer, ParserOptions options)
    : state_(std::make_unique<State>(tokenizer, std::move(options))) {}
OutputParser::OutputParser(OutputParser&&) noexcept = default;
OutputParser& OutputParser::operator=(OutputParser&&) noexcept = default;
OutputParser::~OutputParser() = default;

OutputDelta OutputParser::feed(TokenId id) {
  OutputDelta out;
  if (state_->tokenizer.is_special(id)) {
    state_->structural(id, out);
  } else {
    state_->add_text(state_->decoder.feed(id), out);
  }
  return out;
}

OutputDelta OutputParser::finish(EndedBy ended_by) {
  OutputDelta out;
  state_->finish(ended_by, out);
  return out;
}

FinishReason OutputParser::finish_reason() const {
  return state_->reason;
}
bool OutputParser::in_reasoning() const {
  return state_->mode == State::Mode::kReasoning;
}

}  // namespace gem8
