#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace gem8 {

/// "a%2Fb" -> "a/b". nullopt for a '%' without two hex digits, and for a zero byte, which no name
/// has. The result may be no UTF-8.
std::optional<std::string> percent_decoded(std::string_view text);

}  // namespace gem8
