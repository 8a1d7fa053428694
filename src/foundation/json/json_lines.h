#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

#include "foundation/json/json.h"
#include "foundation/result.h"

namespace gem8 {

/// Reads JSONL text value by value; blank lines are skipped.
class JsonLines {
 public:
  /// `text` outlives this. `name` is what where() calls it.
  JsonLines(std::string_view text, std::string_view name) : rest_(text), name_(name) {}

  /// The next value; nullopt at the end. Error: kInvalidArgument for a line that is no JSON, which
  /// names it.
  Result<std::optional<Json>> next();

  /// "NAME:LINE", or "line LINE" without a name, of the value that was read last: for errors.
  std::string where() const;

 private:
  std::string_view rest_;
  std::string name_;
  std::size_t number_ = 0;
};

}  // namespace gem8
