#include "server/openai/choice.h"

#include <gtest/gtest.h>

#include "server/openai/reply.h"

namespace gem8::openai {
namespace {

const Tokenizer& tokenizer() {
  static const Tokenizer small = Tokenizer::load(GEM8_TEST_DATA "/golden/tokenizer/small").value();
  return small;
}

/// The events of an answer whose text (markers included) is this, ended by a stop token or the
/// length.
std::vector<TokenEvent> events_of(std::string_view text,
                                  std::optional<TokenId> stop = TokenId{106}) {
  std::vector<TokenEvent> events;
  for (const TokenId id : tokenizer().encode(text)) {
    events.emplace_back();
    events.back().token = SampledToken{.id = id, .logprob = -0.5f, .rank = 1};
    events.back().top = {{TokenId{4}, -0.25f}, {id, -0.5f}};
  }
  if (stop) {
    events.emplace_back();
    events.back().token = SampledToken{.id = *stop};
  }
  Finish finish{.reason = stop ? EndReason::kStop : EndReason::kLength};
  if (stop && *stop != TokenId{1}) finish.stop_token = stop;
  events.back().finish = finish;
  return events;
}

ChoiceOptions chat_options() {
  ChoiceOptions options;
  options.parser.emplace();
  options.new_call_id = [n = 0]() mutable { return fmt::format("call-{}", n++); };
  return options;
}

struct Read {
  WholeChoice whole;
  std::string stream;  ///< the events of all deltas
  std::int64_t n_tokens = 0;
  std::int64_t n_reasoning = 0;
};

Read read(std::string_view text, const Generation& generation = {},
          ChoiceOptions options = chat_options(), std::optional<TokenId> stop = TokenId{106}) {
  Choice choice(tokenizer(), generation, std::move(options));
  const ChatReply reply(tokenizer(), {.id = "id", .created = 1, .model = "m", .fingerprint = "f"},
                        ReplyOptions::of(generation));
  Read result;
  for (const TokenEvent& event : events_of(text, stop)) {
    ChoiceDelta delta = choice.feed(event);
    result.stream += reply.delta_chunks(0, delta, std::nullopt, true);
    const bool ended = delta.end.has_value();
    result.whole.add(std::move(delta));
    if (ended) break;
  }
  result.n_tokens = choice.n_tokens();
  result.n_reasoning = choice.n_reasoning_tokens();
  return result;
}

/// The stream's deltas put together as a client does it.
Json joined(std::string_view stream) {
  std::string content, reasoning, finish;
  Json calls = Json::array();
  while (!stream.empty()) {
    const std::size_t end = stream.find("\n\n");
    const Json chunk = parse_json(stream.substr(6, end - 6)).value();
    stream.remove_prefix(end + 2);
    const Json& choice = chunk.find("choices")->as_array()[0];
    const Json& delta = *choice.find("delta");
    if (const Json* piece = delta.find("content")) content += piece->as_string();
    if (const Json* piece = delta.find("reasoning")) {
      reasoning += piece->as_string();
      EXPECT_EQ(*piece, *delta.find("reasoning_content"));
    }
    if (const Json* pieces = delta.find("tool_calls")) {
      for (const Json& piece : pieces->as_array()) {
        const auto index = static_cast<std::size_t>(piece.find("index")->as_int());
        const Json& function = *piece.find("function");
        if (piece.find("id") != nullptr) {
          EXPECT_EQ(index, calls.as_array().size());
          calls.push_back(Json::object(
              {{"id", *piece.find("id")}, {"name", *function.find("name")}, {"arguments", ""}}));
        }
        Json& arguments = *calls.as_array()[index].find("arguments");
        arguments = arguments.as_string() + function.find("arguments")->as_string();
      }
    }
    if (const Json* reason = choice.find("finish_reason"); !reason->is_null())
      finish = reason->as_string();
  }
  return Json::object(
      {{"content", content}, {"reasoning", reasoning}, {"calls", calls}, {"finish", finish}});
}

Json as_json(const WholeChoice& whole) {
  Json calls = Json::array();
  for (const auto& call : whole.calls)
    calls.push_back(
        Json::object({{"id", call.id}, {"name", call.name}, {"arguments", call.arguments}}));
  return Json::object({{"content", whole.content},
                       {"reasoning", whole.reasoning},
                       {"calls", calls},
                       {"finish", whole.end.finish_reason}});
}

constexpr const char* kCall = "<|tool_call>call:weather{city:<|\"|>Paris<|\"|>,days:3}<tool_call|>";

TEST(Choice, StreamAndWholeAgree) {
  const struct {
    std::string text, content, reasoning;
    std::size_t n_calls;
    const char* finish;
  } cases[] = {
      {"The cat sat.", "The cat sat.", "", 0, "stop"},
      {"<|channel>thought\nI think.<channel|>The cat.", "The cat.", "I think.", 0, "stop"},
      {kCall, "", "", 1, "tool_calls"},
      {std::string("<|channel>thought\nHm.<channel|>") + kCall + kCall, "", "Hm.", 2, "tool_calls"},
      {std::string("Let me see.") + kCall, "Let me see.", "", 1, "tool_calls"},
      {"caf\xC3\xA9 \xF0\x9F\x98\x80", "caf\xC3\xA9 \xF0\x9F\x98\x80", "", 0, "stop"},
  };
  for (const auto& test : cases) {
    const Read answer = read(test.text);
    EXPECT_EQ(answer.whole.content, test.content);
    EXPECT_EQ(answer.whole.reasoning, test.reasoning);
    EXPECT_EQ(answer.whole.calls.size(), test.n_calls);
    EXPECT_EQ(answer.whole.end.finish_reason, test.finish) << test.text;
    EXPECT_EQ(joined(answer.stream), as_json(answer.whole)) << test.text;
  }
}

TEST(Choice, CallsHaveIdsNamesAndJsonArguments) {
  const Read answer = read(kCall);
  ASSERT_EQ(answer.whole.calls.size(), 1u);
  EXPECT_EQ(answer.whole.calls[0].id, "call-0");
  EXPECT_EQ(answer.whole.calls[0].name, "weather");
  const Json arguments = parse_json(answer.whole.calls[0].arguments).value();
  EXPECT_EQ(*arguments.find("city"), Json("Paris"));
  EXPECT_EQ(*arguments.find("days"), Json(3));
  EXPECT_NE(
      answer.stream.find(
          R"("tool_calls":[{"index":0,"id":"call-0","type":"function","function":{"name":"weather","arguments":")"),
      std::string::npos)
      << answer.stream;
}

TEST(Choice, OnlyOneCallWhenTheyAreNotParallel) {
  ChoiceOptions options = chat_options();
  options.parallel_tool_calls = false;
  EXPECT_EQ(read(std::string(kCall) + kCall, {}, std::move(options)).whole.calls.size(), 1u);
}

TEST(Choice, ReasoningCanBeLeftOutButIsCounted) {
  ChoiceOptions options = chat_options();
  options.include_reasoning = false;
  const Read answer = read("<|channel>thought\nI think.<channel|>The cat.", {}, std::move(options));
  EXPECT_EQ(answer.whole.reasoning, "");
  EXPECT_EQ(answer.whole.content, "The cat.");
  EXPECT_GT(answer.n_reasoning, 2);
  EXPECT_GT(answer.n_tokens, answer.n_reasoning);
}

TEST(Choice, ReasoningThatIsLeftOutDoesNotShowInTokens) {
  Generation generation;
  generation.return_token_ids = true;
  generation.sampling.n_logprobs = 1;
  const std::string text = "<|channel>thought\nI think.<channel|>The cat.";
  const auto content_tokens = tokenizer().encode("The cat.").size() + 1;  // and the end of the turn
  EXPECT_GT(read(text, generation).whole.tokens.size(), content_tokens + 2);
  ChoiceOptions options = chat_options();
  options.include_reasoning = false;
  const Read answer = read(text, generation, std::move(options));
  EXPECT_EQ(answer.whole.tokens.size(), content_tokens);
  EXPECT_EQ(answer.stream.find(R"("token_ids":[])"), std::string::npos) << answer.stream;
  EXPECT_EQ(joined(answer.stream), as_json(answer.whole));
}

TEST(Choice, StopStringsCutContentOnly) {
  Generation generation;
  generation.stop = {"cat"};
  const Read answer = read("<|channel>thought\nA cat?<channel|>The cat sat.", generation);
  EXPECT_EQ(answer.whole.reasoning, "A cat?");
  EXPECT_EQ(answer.whole.content, "The ");
  EXPECT_EQ(answer.whole.end.finish_reason, "stop");
  EXPECT_EQ(answer.whole.end.stop_reason, Json("cat"));
}

TEST(Choice, EndsSayWhy) {
  EXPECT_EQ(read("The", {}, chat_options(), TokenId{1}).whole.end.stop_reason, Json());
  EXPECT_EQ(read("The").whole.end.stop_reason, Json(106));
  EXPECT_EQ(read("The", {}, chat_options(), std::nullopt).whole.end.finish_reason, "length");
  // cut off inside a call: the call is not there, whole or streamed
  const Read cut = read("<|tool_call>call:weather{city:", {}, chat_options(), std::nullopt);
  EXPECT_EQ(cut.whole.end.finish_reason, "length");
  EXPECT_EQ(joined(cut.stream), as_json(cut.whole));
}

TEST(Choice, PlainTextHasNoStructure) {
  Generation generation;
  generation.skip_special_tokens = false;
  EXPECT_EQ(read("a<|channel>b", generation, {}).whole.content, "a<|channel>b");
  generation.skip_special_tokens = true;
  EXPECT_EQ(read("a<|channel>b", generation, {}).whole.content, "ab");
}

TEST(CompletionReply, OffsetsAreInTheText) {
  Generation generation;
  generation.sampling.n_logprobs = 0;
  // One character of several byte tokens, and a token that is not shown.
  const std::string text = "a\xF0\x9F\x98\x80 caf\xC3\xA9<|channel>b";
  Choice choice(tokenizer(), generation, {});
  std::size_t n_characters = 0;  // of the text so far
  WholeChoice whole;
  for (const TokenEvent& event : events_of(text)) {
    ChoiceDelta delta = choice.feed(event);
    ASSERT_EQ(delta.tokens.size(), 1u);
    EXPECT_EQ(delta.tokens[0].text_offset, n_characters);
    for (const char c : delta.content)
      n_characters += (static_cast<unsigned char>(c) & 0xC0) != 0x80;
    whole.add(std::move(delta));
  }
  EXPECT_EQ(whole.content,
            "a\xF0\x9F\x98\x80 caf\xC3\xA9"
            "b");
  const Json logprobs = CompletionReply(tokenizer(), {}, {.n_logprobs = 0}).logprobs(whole.tokens);
  const Json::Array& offsets = logprobs.find("text_offset")->as_array();
  EXPECT_EQ(offsets.front(), Json(0));
  EXPECT_EQ(offsets.back(), Json(8));  // of the end token: behind all of "a😀 caféb"
}

TEST(ChatReply, TopLogprobsBeginWithTheSampledToken) {
  const ChatReply reply(tokenizer(), {}, {.n_logprobs = 2});
  const TokenId id = tokenizer().encode("cat").front();
  const Json logprobs = reply.logprobs(
      {{SampledToken{.id = id, .logprob = -0.5f, .rank = 2}, {{TokenId{4}, -0.25f}, {id, -0.5f}}}});
  const Json& entry = logprobs.find("content")->as_array()[0];
  EXPECT_EQ(*entry.find("logprob"), Json(-0.5));
  const Json::Array& top = entry.find("top_logprobs")->as_array();
  ASSERT_EQ(top.size(), 2u);
  EXPECT_EQ(*top[0].find("logprob"), Json(-0.5));
  EXPECT_EQ(*top[1].find("logprob"), Json(-0.25));
  EXPECT_EQ(
      to_text(reply.logprobs({{SampledToken{.id = id, .logprob = -INFINITY}, {}}})).find("inf"),
      std::string::npos);
}

}  // namespace
}  // namespace gem8::openai
