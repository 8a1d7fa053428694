#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <string_view>
#include <vector>

#include "foundation/json/json.h"
#include "foundation/mapped_file.h"

namespace gem8::testing {

/// The values of a .jsonl fixture. A fixture that cannot be read fails the test.
inline std::vector<Json> read_json_lines(const std::filesystem::path& path) {
  std::vector<Json> rows;
  const auto text = read_text_file(path);
  EXPECT_TRUE(text.has_value()) << path;
  if (!text) return rows;
  for (std::string_view rest = *text; !rest.empty();) {
    const std::size_t end = rest.find('\n');
    const std::string_view line = rest.substr(0, end);
    rest.remove_prefix(end == std::string_view::npos ? rest.size() : end + 1);
    if (line.empty()) continue;
    auto row = parse_json(line);
    EXPECT_TRUE(row.has_value()) << path << ": " << row.error().text();
    if (row) rows.push_back(std::move(*row));
  }
  EXPECT_FALSE(rows.empty()) << path << " has no rows";
  return rows;
}

}  // namespace gem8::testing
