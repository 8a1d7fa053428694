#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace gem8::openai {

/// Looks for stop strings in text that arrives in pieces. Of several the one whose end comes first
/// wins, and of those that end together the longest. Text is released as soon as no stop string can
/// begin in it.
class StopStrings {
 public:
  explicit StopStrings(std::vector<std::string> stops, bool include_in_output = false)
      : stops_(std::move(stops)), include_in_output_(include_in_output) {}

  /// The text that is certain now. After a match: what stood before it (and the stop string itself
  /// when it is to be included); nothing is released any more.
  std::string feed(std::string_view text);
  /// What was held back, when the text ends without a match.
  std::string flush();

  const std::optional<std::string>& matched() const { return matched_; }

 private:
  std::vector<std::string> stops_;
  bool include_in_output_;
  std::string held_;  // no stop string ends in it
  std::optional<std::string> matched_;
};

}  // namespace gem8::openai
