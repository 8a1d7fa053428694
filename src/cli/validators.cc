#include "cli/validators.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>

namespace gem8::cli {

CLI::Validator one_of(std::vector<std::string> words) {
  std::string description = fmt::format("{{{}}}", fmt::join(words, ","));
  return CLI::Validator(
      [words = std::move(words)](const std::string& value) -> std::string {
        if (std::ranges::find(words, value) != words.end()) return {};
        if (words.size() == 1) return fmt::format("found '{}', wanted {}", value, words.front());
        return fmt::format("found '{}', wanted {} or {}", value,
                           fmt::join(words.begin(), words.end() - 1, ", "), words.back());
      },
      std::move(description));
}

CLI::Validator between(std::int64_t low, std::int64_t high) {
  return CLI::Validator(
      [low, high](const std::string& value) -> std::string {
        std::int64_t number = 0;
        const auto [end, error] =
            std::from_chars(value.data(), value.data() + value.size(), number);
        const bool whole = error == std::errc() && end == value.data() + value.size();
        if (whole && low <= number && number <= high) return {};
        return fmt::format("found '{}', wanted a whole number from {} to {}", value, low, high);
      },
      fmt::format("{} to {}", low, high));
}

CLI::Validator byte_size() {
  return CLI::Validator(
      [size = CLI::AsSizeValue(true)](std::string& value) -> std::string {
        const std::string given = value;
        try {
          if (size(value).empty()) return {};
        } catch (const CLI::ValidationError&) {
        }
        return fmt::format("found '{}', wanted a number of bytes, as in 5GB or 8GiB", given);
      },
      "BYTES");
}

}  // namespace gem8::cli
