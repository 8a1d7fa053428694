#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <string_view>

namespace gem8 {

/// Insertions, deletions, replacements and swaps of neighbours that turn one word into the other.
std::size_t edit_distance(std::string_view a, std::string_view b);

/// The name that `word` was probably meant to be: the one with the smallest edit distance, when
/// that is at most a third of the word's length, or 1.
std::optional<std::string_view> nearest_name(std::string_view word,
                                             std::span<const std::string_view> names);

}  // namespace gem8
