#pragma once

#include <cstdint>

namespace gem8 {

/// A row of the vocabulary. Distinct from every other integer: swapping it with a position or a
/// sequence does not compile.
enum class TokenId : std::int32_t {};

constexpr std::int32_t index_of(TokenId id) {
  return static_cast<std::int32_t>(id);
}

}  // namespace gem8
