#include "text/output/output_parser.h"

#include <gtest/gtest.h>

#include "tests/support/json_lines.h"
#include "tests/support/shared_folder.h"

namespace gem8 {
namespace {

namespace fs = std::filesystem;

struct Answer {
  std::string reasoning, content;
  std::vector<ToolCallDelta> calls;
  FinishReason reason;
};

Answer parse(const Tokenizer& tokenizer, const Json& row, std::span<const TokenId> ids,
             bool partial) {
  ParserOptions options;
  options.prompt_tail = tokenizer.encode(row.find("prompt_tail")->as_string());
  options.tools = *row.find("tools");
  options.drop_calls = row.find("tool_choice")->as_string() == "none";
  options.keep_partial_calls = partial;
  OutputParser parser(tokenizer, std::move(options));
  Answer answer;
  const auto join = [&](const OutputDelta& delta) {
    answer.reasoning += delta.reasoning;
    answer.content += delta.content;
    for (const ToolCallDelta& call : delta.tool_calls) {
      if (call.index == answer.calls.size()) answer.calls.push_back({.index = call.index});
      ASSERT_LT(call.index, answer.calls.size());
      if (call.name) answer.calls[call.index].name = call.name;
      answer.calls[call.index].arguments += call.arguments;
    }
  };
  for (const TokenId id : ids) join(parser.feed(id));
  join(parser.finish(row.find("ended_by")->as_string() == "length" ? EndedBy::kLength
                                                                   : EndedBy::kStopToken));
  answer.reason = parser.finish_reason();
  return answer;
}

std::string text_or_empty(const Json& value) {
  return value.is_null() ? std::string() : value.as_string();
}

/// Members in order; 5 and 5.0 differ.
void expect_same_json(const std::string& found, const std::string& wanted,
                      const std::string& name) {
  const auto a = parse_json(found), b = parse_json(wanted);
  ASSERT_TRUE(a.has_value()) << name << ": " << found;
  ASSERT_TRUE(b.has_value()) << name << ": " << wanted;
  EXPECT_EQ(to_text(*a), to_text(*b)) << name;
}

void check(const Tokenizer& tokenizer, bool real_ids) {
  const auto rows =
      testing::read_json_lines(fs::path(GEM8_TEST_DATA) / "golden/chat/tool_calls.jsonl");
  constexpr const char* kReasons[] = {"stop", "length", "tool_calls"};
  for (const Json& row : rows) {
    const std::string& name = row.find("name")->as_string();
    std::vector<TokenId> ids;
    if (real_ids) {
      for (const Json& id : row.find("ids")->as_array())
        ids.push_back(static_cast<TokenId>(id.as_int()));
    } else {
      for (const Json& piece : row.find("pieces")->as_array()) {
        if (const Json* special = piece.find("special")) {
          ids.push_back(*tokenizer.token_id(special->as_string()));
        } else {
          const auto text = tokenizer.encode(piece.find("text")->as_string(),
                                             Tokenizer::AddedTokenText::kOrdinary);
          ids.insert(ids.end(), text.begin(), text.end());
        }
      }
    }
    const Answer answer = parse(tokenizer, row, ids, false);
    const Json& expected = *row.find("expected");
    EXPECT_EQ(answer.reasoning, text_or_empty(*expected.find("reasoning"))) << name;
    EXPECT_EQ(answer.content, text_or_empty(*expected.find("content"))) << name;
    EXPECT_EQ(kReasons[static_cast<int>(answer.reason)],
              expected.find("finish_reason")->as_string())
        << name;
    const auto& calls = expected.find("tool_calls")->as_array();
    ASSERT_EQ(answer.calls.size(), calls.size()) << name;
    for (std::size_t i = 0; i < calls.size(); ++i) {
      EXPECT_EQ(answer.calls[i].name, calls[i].find("name")->as_string()) << name;
      expect_same_json(answer.calls[i].arguments, calls[i].find("arguments")->as_string(), name);
    }
    if (const Json* partial = row.find("partial")) {
      const Answer with_partial = parse(tokenizer, row, ids, true);
      ASSERT_EQ(with_partial.calls.size(), calls.size() + 1) << name;
      EXPECT_EQ(with_partial.calls.back().name, partial->find("name")->as_string()) << name;
      expect_same_json(with_partial.calls.back().arguments, partial->find("arguments")->as_string(),
                       name);
    }
  }
}

TEST(OutputParser, ReproducesEveryCaseWithTheSmallVocabulary) {
  const auto tokenizer = Tokenizer::load(fs::path(GEM8_TEST_DATA) / "golden/tokenizer/small");
  ASSERT_TRUE(tokenizer.has_value());
  check(*tokenizer, false);
}

TEST(OutputParser, ReproducesEveryCaseWithTheRealVocabulary) {
  const auto shared = testing::shared_folder();
  if (!shared) GTEST_SKIP() << "the real vocabulary is not here (GEM8_SHARED)";
  const auto tokenizer = Tokenizer::load(*shared / "golden/tokenizer/gemma4-26b-a4b");
  ASSERT_TRUE(tokenizer.has_value());
  check(*tokenizer, true);
}

}  // namespace
}  // namespace gem8
