#pragma once

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "foundation/json/json.h"
#include "foundation/mapped_file.h"
#include "tests/e2e/served.h"
#include "tests/support/temporary_folder.h"

namespace gem8::testing {

/// Commands that end, as a user runs them.
class CommandLine : public ::testing::Test {
 protected:
  struct Outcome {
    int status = -3;
    std::string out;
    std::string errors;
  };

  /// gem8 with these words and this standard input; stdout goes through a file.
  Outcome gem8(const std::vector<std::string>& words, std::string_view input = {}) {
    const std::filesystem::path out = folder_.path() / "stdout";
    std::string line = fmt::format("'{}'", GEM8_BINARY);
    for (const std::string& word : words) line += fmt::format(" '{}'", word);
    Process process({"/bin/sh", "-c",
                     fmt::format("{} < '{}' > '{}'", line, folder_.write("stdin", input).string(),
                                 out.string())});
    Outcome outcome{.status = process.wait(), .out = "", .errors = ""};
    process.says("no text at all");  // until its end
    outcome.out = read_text_file(out).value_or("");
    outcome.errors = process.errors();
    return outcome;
  }
  std::string trace(std::vector<std::string> words, const char* name = "trace.safetensors") {
    const std::string file = (folder_.path() / name).string();
    words.insert(words.begin(), "trace");
    words.insert(words.end(), {"-o", file});
    const Outcome outcome = gem8(words);
    EXPECT_EQ(outcome.status, 0) << outcome.errors;
    return file;
  }
  std::string write(const char* name, const Json& json) {
    return folder_.write(name, to_text(json)).string();
  }

  TemporaryFolder folder_;
  const std::string demo_ = demo_model().string();
};

}  // namespace gem8::testing
