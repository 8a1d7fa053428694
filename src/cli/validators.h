#pragma once

#include <CLI/CLI.hpp>

#include <cstdint>
#include <string>
#include <vector>

namespace gem8::cli {

// What option values are held against. Their errors say what was found and what was wanted.

/// One of these words, as they are written.
CLI::Validator one_of(std::vector<std::string> words);
/// A whole number from `low` to `high`.
CLI::Validator between(std::int64_t low, std::int64_t high);
/// A number of bytes with or without a unit ("8GiB", "5GB"), turned into plain bytes.
CLI::Validator byte_size();
/// A date of the calendar, as in 2026-04-05.
CLI::Validator date();
/// Text in UTF-8.
CLI::Validator utf8_text();

}  // namespace gem8::cli
