#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "foundation/json/json.h"

namespace gem8 {

/// Stands for the string delimiter <|"|> in the text of a call; no UTF-8 text holds this byte.
inline constexpr char kDelimiter = '\xFF';

struct ParsedCall {
  std::string name;
  std::string arguments;  ///< JSON text with Python's separators
  bool closed = false;    ///< the closing brace was there
};

/// Reads the text between <|tool_call> and <tool_call|>: "call:NAME{key:value,...}" as the model
/// writes it, mistakes included (chat specification 3.4, 3.6, 3.11). `tools` is the request's tool
/// list or null. Without `complete` the text was cut off: then a value that may go on is left out,
/// and nothing is returned when the name may. Nothing for text that names no function. Linear but
/// for closing delimiters that are missing; never fails.
std::optional<ParsedCall> parse_call(std::string_view text, const Json& tools, bool complete);

}  // namespace gem8
