#pragma once

#include <CLI/CLI.hpp>

#include <string>

namespace gem8::cli {

/// One line about a command line that CLI11 could not parse: which command and word, what was
/// found, what was wanted. A word that nobody knows comes before what is missing, with the nearest
/// name where one is near.
std::string usage_error(const CLI::App& app, const CLI::ParseError& error);

/// The manual page, in roff: every command with all its options.
std::string man_page(const CLI::App& app);

}  // namespace gem8::cli
