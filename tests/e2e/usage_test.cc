// What gem8 says of itself: usage errors, help, manual page, completion.
#include <fmt/ranges.h>
#include <gmock/gmock.h>

#include <sstream>

#include "tests/e2e/command_line.h"

namespace gem8::testing {
namespace {

using ::testing::HasSubstr;

class Usage : public CommandLine {
 protected:
  /// What `gem8 COMMAND --help` or, without a command, `gem8 --help` lists: the first words of its
  /// lines that begin so.
  std::vector<std::string> listed(const std::string& command, std::string_view prefix) {
    const Outcome help = command.empty() ? gem8({"--help"}) : gem8({command, "--help"});
    EXPECT_EQ(help.status, 0) << help.errors;
    std::vector<std::string> words;
    std::istringstream lines(help.out);
    for (std::string line; std::getline(lines, line);) {
      std::istringstream parts(line);
      std::string word;
      parts >> word;
      if (const std::size_t comma = word.find(','); comma != std::string::npos)
        word.erase(0, comma + 1);
      if (line.starts_with("  ") && word.starts_with(prefix)) words.push_back(word);
    }
    return words;
  }

  std::vector<std::string> commands() {
    const Outcome help = gem8({"--help"});
    std::vector<std::string> names;
    std::istringstream lines(help.out.substr(help.out.find("Subcommands:\n") + 13));
    for (std::string line; std::getline(lines, line) && line.starts_with("  ");)
      names.push_back(line.substr(2, line.find(' ', 2) - 2));
    return names;
  }
};

TEST_F(Usage, ErrorsNameTheWordAndWhatWasWanted) {
  const struct {
    std::vector<std::string> words;
    const char* says;
  } kCases[] = {
      {{}, "no command: wanted one of quantize, verify,"},
      {{"foo"}, "unknown command 'foo': wanted one of quantize, verify,"},
      {{"generte", "demo"}, "unknown command 'generte': did you mean generate? (see gem8 --help)"},
      {{"--foo"}, "unknown option --foo (see gem8 --help)"},
      {{"--threads", "2", "inspect", "demo"},
       "--threads stands before the command, wanted behind it: gem8 inspect --threads"},
      {{"bench", "--rouns", "5"}, "bench: unknown option --rouns: did you mean --rounds?"},
      {{"trace", "demo", "--foo=3"}, "trace: unknown option --foo (see gem8 trace --help)"},
      {{"trace", "demo", "--promt", "x"}, "trace: unknown option --promt: did you mean --prompt?"},
      {{"verify", "a", "b"}, "verify: unexpected argument 'b'"},
      {{"verify"}, "verify: DIR is missing"},
      {{"inspect", "demo", "--format"}, "inspect: --format needs a value"},
      {{"inspect", "demo", "--format", "xml"}, "--format: found 'xml', wanted text or json"},
      {{"inspect", "demo", "--threads", "0"},
       "--threads: found '0', wanted a whole number from 1 to 1024"},
      {{"bench", "demo", "--batch", "1,x"}, "--batch: found 'x', wanted a whole number from 1 to"},
      {{"quantize", "demo", "-o", "x", "--memory", "lots"},
       "--memory: found 'lots', wanted a number of bytes, 1 or more, as in 5GB or 8GiB"},
      {{"quantize", "demo", "-o", "x", "--shard-size", "-5"},
       "--shard-size: found '-5', wanted a number of bytes, 1 or more"},
      {{"quantize", "demo", "-o", "x", "--shard-size", "0"},
       "--shard-size: found '0', wanted a number of bytes, 1 or more"},
      {{"quantize", "demo", "-o", "x", "--report", "/no/such/folder/r.json"},
       "/no/such/folder/r.json"},
      {{"bench", "demo", "--depth", "99999"}, "--depth: found 99999, the model has 8192 positions"},
      {{"verify", "demo", "--vllm-date", "2026-13-45"},
       "--vllm-date: found '2026-13-45', wanted a date, as in 2026-04-05"},
      {{"generate", "demo", "--prompt", "h\xff"}, "--prompt: not UTF-8, wanted text in UTF-8"},
      {{"trace", "demo", "-o", "x"}, "found none, wanted exactly one of --tokens, --tokens-file,"},
      {{"trace", "demo", "-o", "x", "--tokens", "1", "--prompt", "x"},
       "found several, wanted exactly one of --tokens, --tokens-file,"},
      {{"serve", "demo", "--prot", "1"}, "unknown flag --prot: did you mean --port?"},
      {{"serve", "demo", "--foo"}, "unknown flag --foo (see gem8 serve --help)"},
  };
  for (const auto& test : kCases) {
    const Outcome outcome = gem8(test.words);
    SCOPED_TRACE(fmt::format("gem8 {}", fmt::join(test.words, " ")));
    EXPECT_EQ(outcome.status, 2);
    EXPECT_EQ(outcome.out, "");
    EXPECT_TRUE(outcome.errors.starts_with("gem8: error: ")) << outcome.errors;
    EXPECT_EQ(outcome.errors.find('\n'), outcome.errors.size() - 1) << outcome.errors;
    EXPECT_THAT(outcome.errors, HasSubstr(test.says));
  }
}

TEST_F(Usage, StandardInputIsTextInUtf8) {
  for (const char* command : {"tokenize", "parse", "render"}) {
    const Outcome outcome = gem8({command, demo_}, "h\xff");
    EXPECT_EQ(outcome.status, 2) << command;
    EXPECT_EQ(outcome.out, "") << command;
    EXPECT_THAT(outcome.errors, HasSubstr("standard input: not UTF-8")) << command;
  }
}

TEST_F(Usage, ParseNamesTheFieldThatIsWrong) {
  const struct {
    const char* line;
    const char* says;
  } kCases[] = {
      {R"({"text": "x", "tools": 5})", "'tools'"},
      {R"({"text": "x", "tool_choice": "bogus"})", "'tool_choice'"},
      {R"({"text": "x", "ended_by": "zzz"})", "'ended_by'"},
  };
  for (const auto& test : kCases) {
    const Outcome outcome = gem8({"parse", demo_, "--lines"}, test.line);
    EXPECT_EQ(outcome.status, 2) << test.line;
    EXPECT_THAT(outcome.errors, HasSubstr(test.says)) << test.line;
  }
}

TEST_F(Usage, OptionsTakeOneValueAndLeaveTheFolder) {
  const std::string image = demo_ + "/images/009a.png";
  const Outcome outcome = gem8({"render", "--ids", "--image", image, demo_}, chat("", "x"));
  EXPECT_EQ(outcome.status, 2);
  EXPECT_THAT(outcome.errors, HasSubstr("found 1 files for 0 pictures"));
  const Outcome bench = gem8({"bench", "--batch", "1,2", "/no/such/folder"});
  EXPECT_EQ(bench.status, 2);
  EXPECT_THAT(bench.errors, HasSubstr("/no/such/folder"));
  EXPECT_EQ(bench.errors.find("--batch"), std::string::npos) << bench.errors;
}

TEST_F(Usage, TheManualPageHasEveryOptionOfEveryCommand) {
  const Outcome manual = gem8({"--man"});
  EXPECT_EQ(manual.status, 0) << manual.errors;
  EXPECT_TRUE(manual.out.starts_with(".TH GEM8 1 ")) << manual.out.substr(0, 100);
  std::string text = manual.out;
  for (std::size_t at = 0; (at = text.find("\\-", at)) != std::string::npos;) text.erase(at, 1);
  const std::string common = text.substr(text.find("\n.SH OPTIONS OF ALL COMMANDS\n"));
  const std::vector<std::string> names = commands();
  EXPECT_GE(names.size(), 11u);
  for (const std::string& command : names) {
    const std::size_t begin = text.find("\n.SS gem8 " + command + "\n");
    ASSERT_NE(begin, std::string::npos) << command;
    const std::size_t end = std::min(text.find("\n.SS", begin + 1), text.find("\n.SH", begin));
    const std::string section = text.substr(begin, end - begin) + common;
    const std::vector<std::string> options = listed(command, "--");
    EXPECT_GE(options.size(), 5u) << command;
    for (const std::string& option : options)
      EXPECT_THAT(section, HasSubstr(option)) << command << " " << option;
  }
}

TEST_F(Usage, CompletionOffersCommandsAndTheirOptions) {
  const auto completed = [this](std::string_view words, std::string_view current) {
    const std::string script = fmt::format(
        "export PATH=\"$(dirname '{}'):$PATH\"; . '{}/share/gem8.bash-completion'; "
        "COMP_WORDS=(gem8 {}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); _gem8; "
        "printf '%s\\n' \"${{COMPREPLY[@]}}\" > '{}'",
        GEM8_BINARY, GEM8_SOURCE_DIR, words, (folder_.path() / "reply").string());
    Process process({"/bin/bash", "-c", script});
    EXPECT_EQ(process.wait(), 0) << process.errors();
    std::vector<std::string> replies;
    std::istringstream lines(read_text_file(folder_.path() / "reply").value_or(""));
    for (std::string line; std::getline(lines, line);) {
      EXPECT_TRUE(line.starts_with(current)) << line;
      replies.push_back(line);
    }
    return replies;
  };
  std::vector<std::string> all = commands();
  all.insert(all.end(), {"--help", "--version"});
  EXPECT_THAT(completed("''", ""), ::testing::IsSupersetOf(all));
  EXPECT_THAT(completed("gen", "gen"), ::testing::ElementsAre("generate"));
  EXPECT_THAT(completed("trace --im", "--im"),
              ::testing::UnorderedElementsAre("--image", "--image-tokens"));
  EXPECT_THAT(completed("serve --max-num", "--max-num"),
              ::testing::IsSupersetOf({"--max-num-seqs", "--max-num-batched-tokens"}));
}

}  // namespace
}  // namespace gem8::testing
