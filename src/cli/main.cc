// gem8: parses the command line, runs one subcommand, turns its Result into an exit status and one
// line on stderr.
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <vector>

#include "cli/command.h"
#include "cli/usage.h"
#include "cli/validators.h"
#include "cli/version.h"
#include "foundation/log.h"

namespace gem8::cli {
#define COMMAND(function) Command function(CLI::App& app, const CommonOptions& common);
#include "cli/commands.inc"
#undef COMMAND

namespace {

constexpr AddCommand kCommands[] = {
#define COMMAND(function) function,
#include "cli/commands.inc"
#undef COMMAND
};

void add_common(CLI::App& app, CommonOptions& common) {
  app.add_option("--threads", common.threads,
                 "Threads to compute with (default: the physical cores this process may use)")
      ->check(between(1, 1024));
  app.add_option("--device", common.device, "Device to compute on")->check(one_of({"cpu"}));
  app.add_flag("--verbose", common.verbose, "Say more on stderr");
  app.add_flag("--quiet", common.quiet, "Say nothing but warnings and errors on stderr");
}

int run(int argc, char** argv) {
  CLI::App app(
      "gem8: from a bfloat16 Gemma 4 checkpoint to verified static FP8, served over the OpenAI API",
      "gem8");
  app.require_subcommand(1);
  app.set_version_flag("--version", version_text());
  app.add_flag_callback(
      "--man", [&app] { throw CLI::CallForVersion(man_page(app), 0); },
      "Print the manual page and exit: gem8 --man | man -l -");
  app.get_formatter()->column_width(36);

  CommonOptions common;
  std::vector<Command> commands;
  for (const AddCommand add : kCommands) {
    commands.push_back(add(app, common));
    add_common(*commands.back().app, common);
  }

  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& success) {  // --help, --version
    const int status = app.exit(success);
    std::cout.flush();
    if (std::cout) return status;
    std::fprintf(stderr, "gem8: error: cannot write standard output\n");
    return kCouldNot;
  } catch (const CLI::ParseError& error) {
    std::fprintf(stderr, "gem8: error: %s\n", usage_error(app, error).c_str());
    return kCouldNot;
  }
  set_log_level(common.quiet     ? LogLevel::kQuiet
                : common.verbose ? LogLevel::kVerbose
                                 : LogLevel::kInfo);

  for (const Command& command : commands) {
    if (!command.app->parsed()) continue;
    const Result<int> status = command.run();
    if (status) return *status;
    if (status.error().code == Code::kCancelled) return 130;
    std::fprintf(stderr, "gem8: error: %s\n", status.error().text().c_str());
    return kCouldNot;
  }
  return kCouldNot;
}

}  // namespace
}  // namespace gem8::cli

int main(int argc, char** argv) {
  // The documented status, not a death by signal; commands that have something to end set their
  // own.
  std::signal(SIGINT, [](int) { std::_Exit(130); });
  std::signal(SIGPIPE,
              SIG_IGN);  // a reader that went away is an error of write, not a silent death
  return gem8::cli::run(argc, argv);
}
