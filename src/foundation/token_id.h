#pragma once

#include <cstdint>

namespace gem8 {

/// The number of a vocabulary entry. A distinct type: neither a position nor a sequence number can
/// be passed for it.
enum class TokenId : std::int32_t {};

constexpr std::int32_t value_of(TokenId id) {
  return static_cast<std::int32_t>(id);
}

}  // namespace gem8
