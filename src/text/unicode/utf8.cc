#include "text/unicode/utf8.h"

#include <cstring>

namespace gem8::utf8 {

Head head_of(std::string_view bytes) {
  const auto at = [&](std::size_t i) { return static_cast<unsigned char>(bytes[i]); };
  const unsigned lead = at(0);
  if (lead < 0x80) return {Head::State::kComplete, 1};
  std::size_t need = 0;
  unsigned low = 0x80, high = 0xBF;  // of the second byte
  if (lead >= 0xC2 && lead <= 0xDF) {
    need = 2;
  } else if (lead >= 0xE0 && lead <= 0xEF) {
    need = 3;
    if (lead == 0xE0) low = 0xA0;
    if (lead == 0xED) high = 0x9F;
  } else if (lead >= 0xF0 && lead <= 0xF4) {
    need = 4;
    if (lead == 0xF0) low = 0x90;
    if (lead == 0xF4) high = 0x8F;
  } else {
    return {Head::State::kInvalid, 1};
  }
  for (std::size_t k = 1; k < need; ++k) {
    if (k == bytes.size()) return {Head::State::kIncomplete, 0};
    if (at(k) < low || at(k) > high) return {Head::State::kInvalid, k};
    low = 0x80;
    high = 0xBF;
  }
  return {Head::State::kComplete, need};
}

Decoded decode_at(std::string_view text, std::size_t position) {
  const auto byte = [&](std::size_t i) {
    return static_cast<char32_t>(static_cast<unsigned char>(text[position + i]));
  };
  const char32_t lead = byte(0);
  if (lead < 0x80) return {lead, position + 1};
  const Head head = head_of(text.substr(position));
  if (head.state != Head::State::kComplete) return {0xFFFD, position + 1};
  char32_t point = lead & (0x7Fu >> head.n_bytes);
  for (std::size_t k = 1; k < head.n_bytes; ++k) point = point << 6 | (byte(k) & 0x3F);
  return {point, position + head.n_bytes};
}

void append(std::string& out, char32_t point) {
  const auto put = [&](char32_t byte) {
    out += static_cast<char>(static_cast<unsigned char>(byte));
  };
  if (point < 0x80) {
    put(point);
  } else if (point < 0x800) {
    put(0xC0 | point >> 6);
    put(0x80 | (point & 0x3F));
  } else if (point < 0x10000) {
    put(0xE0 | point >> 12);
    put(0x80 | (point >> 6 & 0x3F));
    put(0x80 | (point & 0x3F));
  } else {
    put(0xF0 | point >> 18);
    put(0x80 | (point >> 12 & 0x3F));
    put(0x80 | (point >> 6 & 0x3F));
    put(0x80 | (point & 0x3F));
  }
}

bool is_valid(std::string_view text) {
  std::size_t i = 0;
  while (i < text.size()) {
    std::uint64_t word = 0;
    while (i + 8 <= text.size()) {
      std::memcpy(&word, text.data() + i, 8);
      if ((word & 0x8080808080808080u) != 0) break;
      i += 8;
    }
    if (i == text.size()) break;
    const Head head = head_of(text.substr(i, 4));
    if (head.state != Head::State::kComplete) return false;
    i += head.n_bytes;
  }
  return true;
}

std::size_t length(std::string_view text) {
  std::size_t n = 0;
  for (const char c : text) n += (static_cast<unsigned char>(c) & 0xC0) != 0x80;
  return n;
}

}  // namespace gem8::utf8
