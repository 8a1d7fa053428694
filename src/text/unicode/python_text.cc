#include "text/unicode/python_text.h"

#include <utf8proc.h>

#include <algorithm>
#include <iterator>

#include "text/unicode/utf8.h"

namespace gem8::python {
namespace {

struct Expansion {
  char32_t point;
  const char* text;
};
#include "text/unicode/special_casing.inc"

const char* expansion(const Expansion* first, const Expansion* last, char32_t point) {
  const Expansion* place = std::lower_bound(
      first, last, point, [](const Expansion& e, char32_t p) { return e.point < p; });
  return place != last && place->point == point ? place->text : nullptr;
}

utf8proc_int32_t signed_point(char32_t point) {
  return static_cast<utf8proc_int32_t>(point);
}

void append_upper(std::string& out, char32_t point) {
  if (const char* text = expansion(std::begin(kUpper), std::end(kUpper), point)) {
    out += text;
  } else {
    utf8::append(out, static_cast<char32_t>(utf8proc_toupper(signed_point(point))));
  }
}

void append_title(std::string& out, char32_t point) {
  if (const char* text = expansion(std::begin(kTitle), std::end(kTitle), point)) {
    out += text;
  } else {
    utf8::append(out, static_cast<char32_t>(utf8proc_totitle(signed_point(point))));
  }
}

bool is_case_ignorable(char32_t point) {
  switch (utf8proc_category(signed_point(point))) {
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_SK:
      return true;
    default:
      return point == '\'' || point == '.' || point == ':' || point == 0xB7 || point == 0x2018 ||
             point == 0x2019;
  }
}

/// A sigma at a word's end: a cased letter before it, none after it, case-ignorable characters
/// aside.
bool is_final_sigma(std::string_view text, std::size_t begin, std::size_t end) {
  bool cased_before = false;
  for (std::size_t i = begin; i > 0;) {
    do --i;
    while (i > 0 && (static_cast<unsigned char>(text[i]) & 0xC0) == 0x80);
    const char32_t point = utf8::decode_at(text, i).point;
    if (is_case_ignorable(point)) continue;
    cased_before = is_cased(point);
    break;
  }
  if (!cased_before) return false;
  for (std::size_t i = end; i < text.size();) {
    const auto [point, next] = utf8::decode_at(text, i);
    i = next;
    if (is_case_ignorable(point)) continue;
    return !is_cased(point);
  }
  return true;
}

void append_lower(std::string& out, std::string_view text, std::size_t begin,
                  const utf8::Decoded& decoded) {
  if (decoded.point == 0x130) {
    out += "i\u0307";
  } else if (decoded.point == 0x3A3) {
    utf8::append(out, is_final_sigma(text, begin, decoded.next) ? 0x3C2 : 0x3C3);
  } else {
    utf8::append(out, static_cast<char32_t>(utf8proc_tolower(signed_point(decoded.point))));
  }
}

bool in_set(std::string_view set, char32_t wanted) {
  for (std::size_t i = 0; i < set.size();) {
    const auto [point, next] = utf8::decode_at(set, i);
    if (point == wanted) return true;
    i = next;
  }
  return false;
}

template <class Stripped>
std::string_view strip_left(std::string_view text, const Stripped& stripped) {
  std::size_t at = 0;
  while (at < text.size()) {
    const auto [point, next] = utf8::decode_at(text, at);
    if (!stripped(point)) break;
    at = next;
  }
  return text.substr(at);
}

template <class Stripped>
std::string_view strip_right(std::string_view text, const Stripped& stripped) {
  while (!text.empty()) {
    std::size_t at = text.size() - 1;
    while (at > 0 && (static_cast<unsigned char>(text[at]) & 0xC0) == 0x80) --at;
    if (!stripped(utf8::decode_at(text, at).point)) break;
    text = text.substr(0, at);
  }
  return text;
}

}  // namespace

bool is_space(char32_t point) {
  return (point >= 0x09 && point <= 0x0D) || (point >= 0x1C && point <= 0x20) || point == 0x85 ||
         point == 0xA0 || point == 0x1680 || (point >= 0x2000 && point <= 0x200A) ||
         point == 0x2028 || point == 0x2029 || point == 0x202F || point == 0x205F ||
         point == 0x3000;
}

std::string_view lstrip(std::string_view text) {
  return strip_left(text, is_space);
}
std::string_view rstrip(std::string_view text) {
  return strip_right(text, is_space);
}
std::string_view strip(std::string_view text) {
  return lstrip(rstrip(text));
}
std::string_view lstrip(std::string_view text, std::string_view set) {
  return strip_left(text, [&](char32_t point) { return in_set(set, point); });
}
std::string_view rstrip(std::string_view text, std::string_view set) {
  return strip_right(text, [&](char32_t point) { return in_set(set, point); });
}

std::string upper(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size();) {
    const auto [point, next] = utf8::decode_at(text, i);
    append_upper(out, point);
    i = next;
  }
  return out;
}

std::string lower(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size();) {
    const auto decoded = utf8::decode_at(text, i);
    append_lower(out, text, i, decoded);
    i = decoded.next;
  }
  return out;
}

std::string title(std::string_view text) {
  std::string out;
  bool after_cased = false;
  for (std::size_t i = 0; i < text.size();) {
    const auto decoded = utf8::decode_at(text, i);
    if (after_cased) {
      append_lower(out, text, i, decoded);
    } else {
      append_title(out, decoded.point);
    }
    after_cased = is_cased(decoded.point);
    i = decoded.next;
  }
  return out;
}

std::string capitalize(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size();) {
    const auto decoded = utf8::decode_at(text, i);
    if (i == 0) {
      append_title(out, decoded.point);
    } else {
      append_lower(out, text, i, decoded);
    }
    i = decoded.next;
  }
  return out;
}

std::string swapcase(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size();) {
    const auto decoded = utf8::decode_at(text, i);
    if (is_upper(decoded.point)) {
      append_lower(out, text, i, decoded);
    } else if (is_lower(decoded.point)) {
      append_upper(out, decoded.point);
    } else {
      utf8::append(out, decoded.point);
    }
    i = decoded.next;
  }
  return out;
}

std::string casefold(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size();) {
    const auto [point, next] = utf8::decode_at(text, i);
    utf8proc_int32_t folded[8];
    int boundary = 0;
    const auto n =
        utf8proc_decompose_char(signed_point(point), folded, 8, UTF8PROC_CASEFOLD, &boundary);
    for (utf8proc_ssize_t k = 0; k < n && k < 8; ++k)
      utf8::append(out, static_cast<char32_t>(folded[k]));
    i = next;
  }
  return out;
}

bool is_upper(char32_t point) {
  return utf8proc_isupper(signed_point(point)) != 0;
}
bool is_lower(char32_t point) {
  return utf8proc_islower(signed_point(point)) != 0;
}
bool is_cased(char32_t point) {
  return is_upper(point) || is_lower(point) ||
         utf8proc_category(signed_point(point)) == UTF8PROC_CATEGORY_LT;
}
bool is_alpha(char32_t point) {
  switch (utf8proc_category(signed_point(point))) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
      return true;
    default:
      return false;
  }
}
bool is_decimal(char32_t point) {
  return utf8proc_category(signed_point(point)) == UTF8PROC_CATEGORY_ND;
}

}  // namespace gem8::python
