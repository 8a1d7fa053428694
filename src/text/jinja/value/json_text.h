#pragma once

#include <optional>
#include <string>

#include "text/jinja/value/value.h"

namespace gem8::jinja {

struct JsonText {
  bool ascii = false;
  std::optional<std::string> indent;  ///< white space per level
  std::string item_separator = ", ";
  std::string key_separator = ": ";
  bool sort_keys = false;
};

/// Python's json.dumps, as the tojson filter of transformers' template environment calls it.
Outcome<std::string> to_json(const Value& value, const JsonText& style);

}  // namespace gem8::jinja
