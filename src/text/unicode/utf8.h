#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace gem8::utf8 {

inline constexpr std::string_view kReplacement = "\xEF\xBF\xBD";  ///< U+FFFD

/// What the first bytes of a byte string are under strict UTF-8 (RFC 3629: no surrogates, no
/// overlong forms).
struct Head {
  enum class State { kComplete, kIncomplete, kInvalid } state;
  /// kComplete: bytes of the sequence. kInvalid: bytes to give up: the lead byte and the
  /// continuation bytes that were acceptable.
  std::size_t n_bytes;
};

/// `bytes` is not empty.
Head head_of(std::string_view bytes);

/// The code point at `position` and the position after it. The text is valid UTF-8; a bad byte
/// counts as U+FFFD of one byte.
struct Decoded {
  char32_t point;
  std::size_t next;
};
Decoded decode_at(std::string_view text, std::size_t position);

void append(std::string& out, char32_t point);
bool is_valid(std::string_view text);
/// Code points in valid UTF-8.
std::size_t length(std::string_view text);

}  // namespace gem8::utf8
