#pragma once

#include <CLI/CLI.hpp>

#include <cstddef>
#include <functional>
#include <string>

#include "foundation/result.h"

namespace gem8::cli {

/// Exit statuses of every subcommand; a Result error is kCouldNot.
inline constexpr int kDone = 0;  ///< the work was done and the answer is good
inline constexpr int kAnswerBad =
    1;  ///< the work was done and the answer is bad: a rule is broken, a check failed
inline constexpr int kCouldNot = 2;  ///< usage, unreadable input, unsupported model, full disk

/// What every subcommand takes.
struct CommonOptions {
  std::size_t threads = 0;  ///< 0: the physical cores this process may use
  std::string device;       ///< "", "cpu"
  bool verbose = false;
  bool quiet = false;

  std::size_t thread_count() const;
};

/// One subcommand: its options are bound when it is added, its work runs after parsing.
struct Command {
  CLI::App* app = nullptr;
  std::function<Result<int>()> run;  ///< the exit status, or why it could not be done
};

/// Each subcommand's file defines one of these; main.cc lists them.
using AddCommand = Command (*)(CLI::App& app, const CommonOptions& common);

/// The whole of standard input. Error: kInvalidArgument when it cannot be read or is not UTF-8.
Result<std::string> read_stdin();

/// Writes to stdout; an error when nobody reads it any more.
Status write_stdout(std::string_view text);

}  // namespace gem8::cli
