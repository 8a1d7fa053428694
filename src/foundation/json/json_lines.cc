#include "foundation/json/json_lines.h"

#include <algorithm>

namespace gem8 {

Result<std::optional<Json>> JsonLines::next() {
  while (!rest_.empty()) {
    const std::size_t end = std::min(rest_.find('\n'), rest_.size());
    const std::string_view line = rest_.substr(0, end);
    rest_.remove_prefix(std::min(end + 1, rest_.size()));
    ++number_;
    if (line.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    auto value = parse_json(line);
    if (value) return std::optional<Json>(std::move(*value));
    Error error = std::move(value).error();
    error.code = Code::kInvalidArgument;
    return fail_in(where(), std::move(error));
  }
  return std::nullopt;
}

std::string JsonLines::where() const {
  return name_.empty() ? fmt::format("line {}", number_) : fmt::format("{}:{}", name_, number_);
}

}  // namespace gem8
