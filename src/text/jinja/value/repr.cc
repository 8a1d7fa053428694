#include "text/jinja/value/repr.h"

#include <utf8proc.h>

#include <algorithm>
#include <charconv>
#include <cmath>

#include "text/unicode/utf8.h"

namespace gem8::jinja {

std::string integer_text(Integer value) {
  if (value == 0) return "0";
  std::string digits;
  const bool negative = value < 0;
  while (value != 0) {
    const auto digit = static_cast<int>(value % 10);
    digits += static_cast<char>('0' + (digit < 0 ? -digit : digit));
    value /= 10;
  }
  if (negative) digits += '-';
  std::ranges::reverse(digits);
  return digits;
}

std::string float_text(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value < 0 ? "-inf" : "inf";
  char buffer[40];
  const auto [end, error] =
      std::to_chars(buffer, buffer + sizeof buffer, value, std::chars_format::scientific);
  std::string_view text(buffer, static_cast<std::size_t>(end - buffer));
  std::string out;
  if (text.front() == '-') {
    out = "-";
    text.remove_prefix(1);
  }
  const std::size_t e = text.find('e');
  int exponent = 0;
  const char* digits_of_exponent = text.data() + e + (text[e + 1] == '+' ? 2 : 1);
  std::from_chars(digits_of_exponent, text.data() + text.size(), exponent);
  std::string digits(1, text.front());
  if (e > 2) digits += text.substr(2, e - 2);
  const int n = static_cast<int>(digits.size());
  if (exponent < -4 || exponent >= 16) {
    out += digits[0];
    if (n > 1) out += "." + digits.substr(1);
    return out + fmt::format("e{}{:02}", exponent < 0 ? '-' : '+', std::abs(exponent));
  }
  if (exponent < 0)
    return out + "0." + std::string(static_cast<std::size_t>(-exponent - 1), '0') + digits;
  if (n <= exponent + 1)
    return out + digits + std::string(static_cast<std::size_t>(exponent + 1 - n), '0') + ".0";
  const auto point = static_cast<std::size_t>(exponent + 1);
  return out + digits.substr(0, point) + "." + digits.substr(point);
}

namespace {

constexpr std::size_t kMaxReprBytes = std::size_t{64} << 20;

bool printable(char32_t point) {
  if (point == ' ') return true;
  switch (utf8proc_category(static_cast<utf8proc_int32_t>(point))) {
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
    case UTF8PROC_CATEGORY_ZS:
      return false;
    default:
      return true;
  }
}

void append_quoted(std::string_view text, bool is_bytes, std::string& out) {
  const char quote =
      text.find('\'') != std::string_view::npos && text.find('"') == std::string_view::npos ? '"'
                                                                                            : '\'';
  out += quote;
  for (std::size_t i = 0; i < text.size();) {
    auto [point, next] = utf8::decode_at(text, i);
    if (is_bytes) {
      point = static_cast<unsigned char>(text[i]);
      next = i + 1;
    }
    if (point == static_cast<char32_t>(quote) || point == '\\') {
      out += '\\';
      out += static_cast<char>(point);
    } else if (point == '\n') {
      out += "\\n";
    } else if (point == '\r') {
      out += "\\r";
    } else if (point == '\t') {
      out += "\\t";
    } else if (point < 0x20 || point == 0x7F || (is_bytes && point >= 0x80)) {
      out += fmt::format("\\x{:02x}", static_cast<unsigned>(point));
    } else if (point < 0x7F || printable(point)) {
      out += text.substr(i, next - i);
    } else if (point < 0x100) {
      out += fmt::format("\\x{:02x}", static_cast<unsigned>(point));
    } else if (point < 0x10000) {
      out += fmt::format("\\u{:04x}", static_cast<unsigned>(point));
    } else {
      out += fmt::format("\\U{:08x}", static_cast<unsigned>(point));
    }
    i = next;
  }
  out += quote;
}

void append_repr(const Value& value, std::string& out, int level);

void append_members(const Dict& dict, std::string& out, int level) {
  out += '{';
  bool first = true;
  for (const auto& [key, member] : dict.members()) {
    if (!std::exchange(first, false)) out += ", ";
    append_repr(key, out, level + 1);
    out += ": ";
    append_repr(member, out, level + 1);
  }
  out += '}';
}

void append_list(const List& items, std::string& out, int level) {
  bool first = true;
  for (const Value& item : items) {
    if (!std::exchange(first, false)) out += ", ";
    append_repr(item, out, level + 1);
  }
}

void append_repr(const Value& value, std::string& out, int level) {
  if (level > static_cast<int>(kMaxValueDepth) || out.size() > kMaxReprBytes) {
    out += "...";  // refused by the caller
  } else if (value.is_undefined()) {
    out += "Undefined";
  } else if (value.is_none()) {
    out += "None";
  } else if (const auto* boolean = value.get<bool>()) {
    out += *boolean ? "True" : "False";
  } else if (const auto* integer = value.get<Integer>()) {
    out += integer_text(*integer);
  } else if (const auto* big = value.get<Value::BigNumber>()) {
    out += *big->digits;
  } else if (const auto* number = value.get<double>()) {
    out += float_text(*number);
  } else if (value.is_string()) {
    append_quoted(value.text(), false, out);
  } else if (const auto* bytes = value.get<Value::Bytes>()) {
    out += 'b';
    append_quoted(*bytes->data, true, out);
  } else if (const auto* sequence = value.get<Value::Sequence>()) {
    out += sequence->is_tuple ? '(' : '[';
    append_list(*sequence->items, out, level);
    if (sequence->is_tuple && sequence->items->size() == 1) out += ',';
    out += sequence->is_tuple ? ')' : ']';
  } else if (const Dict* dict = value.mapping()) {
    append_members(*dict, out, level);
  } else if (const auto* range = value.get<Value::Range>()) {
    out += range->step == 1
               ? fmt::format("range({}, {})", range->start, range->stop)
               : fmt::format("range({}, {}, {})", range->start, range->stop, range->step);
  } else if (const auto* view = value.get<Value::DictView>()) {
    out += value.type_name();
    out += "([";
    bool first = true;
    for (const auto& [key, member] : view->dict->members()) {
      if (!std::exchange(first, false)) out += ", ";
      if (view->view == Value::View::kItems) {
        append_repr(Value::tuple({key, member}), out, level + 1);
      } else {
        append_repr(view->view == Value::View::kKeys ? key : member, out, level + 1);
      }
    }
    out += "])";
  } else if (const auto* names = value.get<Value::Namespace>()) {
    out += "<Namespace ";
    append_members(*names->members, out, level);
    out += '>';
  } else {
    out += fmt::format("<{}>", value.type_name());  // refused by the caller
  }
}

/// A part of the value, or itself, that Python prints with its address in memory; null: none.
const Value* without_text(const Value& value) {
  if (value.get<Value::Generator>() || value.get<Value::ObjectRef>()) return &value;
  const auto first_in = [](const List& items) -> const Value* {
    for (const Value& item : items) {
      if (const Value* found = without_text(item)) return found;
    }
    return nullptr;
  };
  if (const List* items = value.items()) return first_in(*items);
  if (const Dict* dict = value.mapping()) {
    for (const auto& [key, member] : dict->members()) {
      if (const Value* found = without_text(member)) return found;
    }
  }
  return nullptr;
}

}  // namespace

Outcome<std::string> to_repr(const Value& value) {
  if (value.weight() > kMaxValueWeight)
    return failure(ErrorClass::kLimit, "a value of more than {} parts is printed", kMaxValueWeight);
  if (const Value* part = without_text(value)) {
    return failure(ErrorClass::kType, "a {} is printed, which has no text (| list shows its items)",
                   part->type_name());
  }
  std::string out;
  append_repr(value, out, 0);
  if (out.size() > kMaxReprBytes)
    return failure(ErrorClass::kLimit, "a value prints as more than {} bytes", kMaxReprBytes);
  return out;
}

Outcome<std::string> to_str(const Value& value) {
  if (value.is_string()) return value.text();
  if (value.is_undefined()) return std::string();
  return to_repr(value);
}

}  // namespace gem8::jinja
