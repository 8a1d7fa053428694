#include <algorithm>
#include <string_view>
#include <vector>

#include "cli/usage.h"
#include "foundation/result.h"

namespace gem8::cli {
namespace {

constexpr std::string_view kHead = R"roff(.TH GEM8 1 "" "gem8" "User Commands"
.SH NAME
gem8 \- quantise a Gemma 4 checkpoint to static FP8, verify it, serve it over the OpenAI API
.SH SYNOPSIS
.B gem8
.I COMMAND
.RI [ DIR ]
.RI [ OPTION ]...
.SH DESCRIPTION
.I DIR
is a checkpoint folder, a hub id
.RI ( org/name )
found in the Hugging Face cache, or
.BR demo ,
the model that ships with gem8. Results go to standard output, everything else to standard error.
)roff";

constexpr std::string_view kTail = R"roff(.SH EXIT STATUS
0: done. 1: the work was done and the answer is bad. 2: it could not be done; one line on standard
error says what was found and what was wanted. 130: interrupted.
.SH FILES
.I $HF_HUB_CACHE\fR, \fI$HF_HOME/hub\fR, \fI~/.cache/huggingface/hub
.RS
Where hub ids are looked up.
.RE
)roff";

/// Text that roff takes for nothing else.
std::string escaped(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if ((c == '.' || c == '\'') && (out.empty() || out.back() == '\n')) out += "\\&";
    if (c == '\\') {
      out += "\\e";
    } else if (c == '-') {
      out += "\\-";
    } else {
      out += c;
    }
  }
  return out;
}

std::vector<const CLI::App*> commands_of(const CLI::App& app) {
  return app.get_subcommands([](const CLI::App*) { return true; });
}

/// The options of a command and of its groups, in the order they were added.
std::vector<const CLI::Option*> options_of(const CLI::App& command) {
  std::vector<const CLI::Option*> options = command.get_options();
  for (const CLI::App* group : commands_of(command)) {
    std::ranges::copy(options_of(*group), std::back_inserter(options));
  }
  return options;
}

std::string entry(const CLI::Option& option) {
  const bool positional = option.get_positional();
  std::string text = fmt::format(".TP\n.B {}", escaped(option.get_name(positional, true)));
  if (!positional && option.get_type_size() != 0)
    text += fmt::format(" \\fI{}\\fR", escaped(option.get_type_name()));
  return fmt::format("{}\n{}\n", text, escaped(option.get_description()));
}

/// Whether every command has an option of that name: said once for all.
bool is_common(const CLI::App& app, const CLI::Option& option) {
  return std::ranges::all_of(commands_of(app), [&](const CLI::App* command) {
    return std::ranges::any_of(command->get_options(), [&](const CLI::Option* other) {
      return other->get_name(false, true) == option.get_name(false, true);
    });
  });
}

}  // namespace

std::string man_page(const CLI::App& app) {
  std::string text(kHead);
  text += ".SH COMMANDS\n";
  const std::vector<const CLI::App*> commands = commands_of(app);
  for (const CLI::App* command : commands) {
    text +=
        fmt::format(".SS gem8 {}\n{}.\n", command->get_name(), escaped(command->get_description()));
    for (const CLI::Option* option : options_of(*command)) {
      if (!is_common(app, *option)) text += entry(*option);
    }
    if (!command->get_footer().empty())
      text += fmt::format(".PP\n.nf\n{}.fi\n", escaped(command->get_footer()));
  }
  text += ".SH OPTIONS OF ALL COMMANDS\n";
  for (const CLI::Option* option : commands.front()->get_options()) {
    if (is_common(app, *option)) text += entry(*option);
  }
  text += ".SH OPTIONS WITHOUT A COMMAND\n";
  for (const CLI::Option* option : app.get_options()) text += entry(*option);
  return text + std::string(kTail);
}

}  // namespace gem8::cli
