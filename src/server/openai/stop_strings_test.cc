#include "server/openai/stop_strings.h"

#include <gtest/gtest.h>

namespace gem8::openai {
namespace {

/// The text that comes out when `text` goes in cut into pieces of n bytes.
std::string joined(const std::vector<std::string>& stops, std::string_view text, std::size_t n,
                   bool include = false, std::optional<std::string>* matched = nullptr) {
  StopStrings stop(stops, include);
  std::string out;
  for (std::size_t i = 0; i < text.size(); i += n) out += stop.feed(text.substr(i, n));
  out += stop.flush();
  if (matched != nullptr) *matched = stop.matched();
  return out;
}

TEST(StopStrings, EveryCutGivesTheSame) {
  const struct {
    std::vector<std::string> stops;
    std::string_view text, out;
    std::optional<std::string> matched;
  } cases[] = {
      {{}, "plain", "plain", std::nullopt},
      {{"x"}, "plain", "plain", std::nullopt},
      {{"\n"}, "one\ntwo", "one", "\n"},
      {{"stop"}, "don't sto", "don't sto", std::nullopt},
      {{"stop"}, "ststop!", "st", "stop"},
      {{"aab"}, "aaaab", "aa", "aab"},
      {{"abc", "b"}, "xabc", "xa", "b"},     // the one that is complete first
      {{"bc", "abc"}, "xabcd", "x", "abc"},  // of those that end together the longest
      {{"END", "\xC3\xA9"}, "caf\xC3\xA9 END", "caf", "\xC3\xA9"},
  };
  for (const auto& test : cases) {
    for (const std::size_t n : {1, 2, 3, 100}) {
      std::optional<std::string> matched;
      EXPECT_EQ(joined(test.stops, test.text, n, false, &matched), test.out)
          << test.text << " in pieces of " << n;
      EXPECT_EQ(matched, test.matched) << test.text << " in pieces of " << n;
    }
  }
}

TEST(StopStrings, IncludedWhenAskedFor) {
  EXPECT_EQ(joined({"stop"}, "a stop b", 1, true), "a stop");
}

TEST(StopStrings, HoldsBackNoMoreThanAPossibleBeginning) {
  StopStrings stop({"<end>"});
  EXPECT_EQ(stop.feed("text <"), "text ");
  EXPECT_EQ(stop.feed("b"), "<b");
  EXPECT_EQ(stop.feed("<en"), "");
  EXPECT_EQ(stop.flush(), "<en");
}

TEST(StopStrings, NothingComesAfterAMatch) {
  StopStrings stop({"."});
  EXPECT_EQ(stop.feed("a.b"), "a");
  EXPECT_EQ(stop.feed("c"), "");
  EXPECT_EQ(stop.flush(), "");
}

}  // namespace
}  // namespace gem8::openai
