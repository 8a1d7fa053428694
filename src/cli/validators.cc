#include "cli/validators.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cstdio>

#include "text/unicode/utf8.h"

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
        try {  // a minus sign would wrap round
          if (!given.contains('-') && size(value).empty() && value != "0") return {};
        } catch (const CLI::ValidationError&) {
        }
        return fmt::format("found '{}', wanted a number of bytes, 1 or more, as in 5GB or 8GiB",
                           given);
      },
      "BYTES");
}

CLI::Validator date() {
  return CLI::Validator(
      [](const std::string& value) -> std::string {
        int year = 0, month = 0, day = 0, n_read = 0;
        const bool digits =
            std::sscanf(value.c_str(), "%4d-%2d-%2d%n", &year, &month, &day, &n_read) == 3;
        const std::chrono::year_month_day date{std::chrono::year(year),
                                               std::chrono::month(static_cast<unsigned>(month)),
                                               std::chrono::day(static_cast<unsigned>(day))};
        if (digits && n_read == 10 && value.size() == 10 && date.ok()) return {};
        return fmt::format("found '{}', wanted a date, as in 2026-04-05", value);
      },
      "YYYY-MM-DD");
}

CLI::Validator utf8_text() {
  return CLI::Validator(
      [](const std::string& value) -> std::string {
        return utf8::is_valid(value) ? "" : "not UTF-8, wanted text in UTF-8";
      },
      "TEXT");
}

}  // namespace gem8::cli
