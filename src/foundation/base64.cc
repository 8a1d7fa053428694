#include "foundation/base64.h"

#include <array>
#include <cstdint>

namespace gem8 {
namespace {

constexpr std::uint32_t kNoDigit = 0xFF;

constexpr std::array<std::uint8_t, 256> kDigits = [] {
  constexpr std::string_view kAlphabet =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::array<std::uint8_t, 256> digits{};
  digits.fill(kNoDigit);
  for (std::size_t i = 0; i < kAlphabet.size(); ++i) {
    digits[static_cast<unsigned char>(kAlphabet[i])] = static_cast<std::uint8_t>(i);
  }
  return digits;
}();

std::uint32_t digit(char c) {
  return kDigits[static_cast<unsigned char>(c)];
}

}  // namespace

Result<std::vector<std::byte>> decode_base64(std::string_view text, std::size_t max_bytes) {
  if (text.size() % 4 != 0) {
    return fail(Code::kInvalidArgument, "base64 of a length that is no multiple of 4");
  }
  if (text.empty()) return std::vector<std::byte>{};
  const std::size_t n_padding = text[text.size() - 1] != '='   ? 0
                                : text[text.size() - 2] != '=' ? 1
                                                               : 2;
  const std::size_t n_bytes = text.size() / 4 * 3 - n_padding;
  if (n_bytes > max_bytes) {
    return fail(Code::kExhausted, "{} bytes, at most {} are accepted", n_bytes, max_bytes);
  }

  std::vector<std::byte> bytes(n_bytes);
  const std::size_t n_digits = text.size() - n_padding;
  const std::size_t n_whole = n_digits / 4 * 4;
  std::uint32_t seen = 0;  // all digits or-ed: bit 7 tells whether one of them was none
  std::size_t to = 0;
  for (std::size_t i = 0; i < n_whole; i += 4) {
    const std::uint32_t a = digit(text[i]), b = digit(text[i + 1]), c = digit(text[i + 2]),
                        d = digit(text[i + 3]);
    seen |= a | b | c | d;
    bytes[to++] = static_cast<std::byte>(a << 2 | b >> 4);
    bytes[to++] = static_cast<std::byte>(b << 4 | c >> 2);
    bytes[to++] = static_cast<std::byte>(c << 6 | d);
  }
  if (n_padding > 0) {
    const std::uint32_t a = digit(text[n_whole]), b = digit(text[n_whole + 1]);
    seen |= a | b;
    bytes[to++] = static_cast<std::byte>(a << 2 | b >> 4);
    if (n_padding == 1) {
      const std::uint32_t c = digit(text[n_whole + 2]);
      seen |= c;
      bytes[to++] = static_cast<std::byte>(b << 4 | c >> 2);
    }
  }
  if (seen > 63) return fail(Code::kInvalidArgument, "characters that are not base64");
  return bytes;
}

}  // namespace gem8
