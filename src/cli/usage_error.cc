#include <fmt/ranges.h>

#include <algorithm>
#include <string_view>
#include <vector>

#include "cli/usage.h"
#include "foundation/nearest_name.h"

namespace gem8::cli {
namespace {

std::vector<const CLI::App*> commands_of(const CLI::App& app) {
  return app.get_subcommands([](const CLI::App*) { return true; });
}

/// "--name" of a command's options, those of its groups included.
std::vector<std::string> long_options(const CLI::App& command) {
  std::vector<std::string> names;
  for (const CLI::Option* option : command.get_options()) {
    for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
  }
  for (const CLI::App* group : commands_of(command)) {
    std::ranges::copy(long_options(*group), std::back_inserter(names));
  }
  return names;
}

std::string did_you_mean(std::string_view word, const std::vector<std::string>& names) {
  const std::vector<std::string_view> views(names.begin(), names.end());
  const auto nearest = nearest_name(word, views);
  return nearest ? fmt::format(": did you mean {}?", *nearest) : std::string();
}

bool is_option(std::string_view word) {
  return word.size() > 1 && word.front() == '-';
}

/// "--name=value" without its value.
std::string_view option_name(std::string_view word) {
  return word.substr(0, word.find('='));
}

/// `word` stands where a command should.
std::string no_command(const CLI::App& app, std::string_view word) {
  std::vector<std::string> names;
  for (const CLI::App* command : commands_of(app)) names.push_back(command->get_name());
  const std::string list = fmt::format("{}", fmt::join(names, ", "));
  if (word.empty()) return fmt::format("no command: wanted one of {}", list);
  if (!is_option(word)) {
    const std::string guess = did_you_mean(word, names);
    return fmt::format("unknown command '{}'{}", word,
                       guess.empty() ? fmt::format(": wanted one of {}", list) : guess);
  }
  const std::string_view name = option_name(word);
  const std::vector<CLI::App*> chosen = app.get_subcommands();
  for (const CLI::App* command : commands_of(app)) {
    if (std::ranges::count(long_options(*command), name) == 0) continue;
    return fmt::format("{} stands before the command, wanted behind it: gem8 {} {}", name,
                       chosen.empty() ? "COMMAND" : chosen.front()->get_name(), name);
  }
  return fmt::format("unknown option {}{}", name, did_you_mean(name, long_options(app)));
}

std::string unknown_word(const CLI::App& command, std::string_view word) {
  if (!is_option(word)) return fmt::format("unexpected argument '{}'", word);
  const std::string_view name = option_name(word);
  return fmt::format("unknown option {}{}", name, did_you_mean(name, long_options(command)));
}

/// CLI11's own sentences in the form of ours.
std::string reworded(const CLI::ParseError& error) {
  const std::string what = error.what();
  const std::size_t open = what.find('['), close = what.find(']');
  if (error.get_name() == "RequiredError" && open != std::string::npos &&
      close != std::string::npos) {
    std::string names = what.substr(open + 1, close - open - 1);
    for (std::size_t comma = 0; (comma = names.find(',', comma)) != std::string::npos; comma += 2)
      names.insert(comma + 1, " ");
    return fmt::format("found {}, wanted exactly one of {}",
                       what.find("were given") == std::string::npos ? "none" : "several", names);
  }
  if (error.get_name() == "RequiredError")
    return fmt::format("{} is missing", what.substr(0, what.find(" is required")));
  if (error.get_name() == "ArgumentMismatch" && what.ends_with(" missing"))
    return fmt::format("{} needs a value", what.substr(0, what.find(':')));
  return what;
}

}  // namespace

std::string usage_error(const CLI::App& app, const CLI::ParseError& error) {
  const std::vector<CLI::App*> chosen = app.get_subcommands();
  const std::vector<std::string> before = app.remaining();
  if (chosen.empty() || !before.empty())
    return no_command(app, before.empty() ? std::string_view() : before.front()) +
           " (see gem8 --help)";
  const CLI::App& command = *chosen.front();
  const std::vector<std::string> unknown = command.remaining();
  return fmt::format("{}: {} (see gem8 {} --help)", command.get_name(),
                     unknown.empty() ? reworded(error) : unknown_word(command, unknown.front()),
                     command.get_name());
}

}  // namespace gem8::cli
