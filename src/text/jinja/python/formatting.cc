#include "text/jinja/python/formatting.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdio>

#include "text/jinja/python/access.h"
#include "text/jinja/python/need.h"
#include "text/jinja/value/repr.h"
#include "text/unicode/utf8.h"

namespace gem8::jinja {
namespace {

constexpr int kMaxWidth = 10000;

struct Spec {
  std::string fill = " ";
  char align = '\0';
  char sign = '-';
  bool alternate = false;
  bool zero = false;
  bool comma = false;
  int width = 0;
  int precision = -1;
  char type = '\0';
};

std::string padded(const std::string& text, const Spec& spec, char default_align) {
  const auto n = static_cast<int>(utf8::length(text));
  if (n >= spec.width) return text;
  const int gap = spec.width - n;
  char align = spec.align != '\0' ? spec.align : default_align;
  std::string fill = spec.fill;
  if (spec.zero && spec.align == '\0') {
    align = '=';
    fill = "0";
  }
  const auto times = [&](int count) {
    std::string out;
    for (int i = 0; i < count; ++i) out += fill;
    return out;
  };
  if (align == '<') return text + times(gap);
  if (align == '^') return times(gap / 2) + text + times(gap - gap / 2);
  if (align == '=') {
    const std::size_t sign =
        !text.empty() && (text[0] == '-' || text[0] == '+' || text[0] == ' ') ? 1 : 0;
    return text.substr(0, sign) + times(gap) + text.substr(sign);
  }
  return times(gap) + text;
}

std::string with_sign(std::string digits, bool negative, char sign) {
  if (negative) return "-" + digits;
  if (sign == '+' || sign == ' ') return sign + digits;
  return digits;
}

std::string in_base(Integer magnitude, unsigned base, bool capital) {
  if (magnitude == 0) return "0";
  std::string digits;
  for (; magnitude != 0; magnitude /= base) {
    const auto digit = static_cast<int>(magnitude % base);
    digits += static_cast<char>(digit < 10 ? '0' + digit : (capital ? 'A' : 'a') + digit - 10);
  }
  std::ranges::reverse(digits);
  return digits;
}

void insert_commas(std::string& digits) {
  std::size_t end = std::min(digits.find_first_of(".e"), digits.size());
  for (std::size_t at = end; at > 3; at -= 3) digits.insert(at - 3, ",");
  if (!digits.empty() && digits.front() == ',') digits.erase(0, 1);
}

Outcome<std::string> integer_field(Integer value, const Spec& spec) {
  const bool negative = value < 0;
  std::string digits = integer_text(value);
  if (negative) digits.erase(0, 1);
  std::string prefix;
  if (spec.type == 'x' || spec.type == 'X' || spec.type == 'o' || spec.type == 'b') {
    const unsigned base = spec.type == 'o' ? 8 : spec.type == 'b' ? 2 : 16;
    if (negative && value == -value)
      return failure(ErrorClass::kLimit, "the number is too large to format");
    digits = in_base(negative ? -value : value, base, spec.type == 'X');
    if (spec.alternate) prefix = std::string("0") + spec.type;
  }
  if (spec.precision > static_cast<int>(digits.size()))
    digits.insert(0, static_cast<std::size_t>(spec.precision) - digits.size(), '0');
  if (spec.comma) insert_commas(digits);
  return padded(with_sign(prefix + digits, negative, spec.sign), spec, '>');
}

Outcome<std::string> float_field(double value, const Spec& spec) {
  char buffer[512];
  const char kind = spec.type == '%' ? 'f' : spec.type;
  const char format[] = {'%', '.', '*', kind, '\0'};
  const double magnitude = std::abs(spec.type == '%' ? value * 100 : value);
  const int precision = std::min(spec.precision < 0 ? 6 : spec.precision, 100);
  const int n = std::snprintf(buffer, sizeof buffer, format, precision, magnitude);
  std::string digits(buffer, static_cast<std::size_t>(std::clamp(n, 0, 511)));
  if (spec.comma) insert_commas(digits);
  if (spec.type == '%') digits += '%';
  const bool negative = std::signbit(value) && !std::isnan(value);
  return padded(with_sign(std::move(digits), negative, spec.sign), spec, '>');
}

/// Text is padded with the '0' of "05" at most where a fill is due, never behind a sign.
Spec without_zero(Spec spec) {
  spec.zero = false;
  return spec;
}

bool is_float_type(char type) {
  return std::string_view("fFeEgG%").find(type) != std::string_view::npos && type != '\0';
}

std::string cut(const std::string& text, int precision) {
  if (precision < 0) return text;
  std::size_t at = 0;
  for (int i = 0; i < precision && at < text.size(); ++i) at = utf8::decode_at(text, at).next;
  return text.substr(0, at);
}

std::size_t read_number(std::string_view text, std::size_t at, int& out) {
  while (at < text.size() && text[at] >= '0' && text[at] <= '9') {
    out = std::min(out * 10 + (text[at] - '0'), kMaxWidth + 1);
    ++at;
  }
  return at;
}

Outcome<std::string> percent_field(const Value& value, const Spec& spec) {
  switch (spec.type) {
    case 's':
    case 'r':
    case 'a': {
      if (spec.type == 'a')
        return failure(ErrorClass::kRuntime, "the format %a is not implemented");
      GEM8_TRY(const std::string text, spec.type == 's' ? to_str(value) : to_repr(value));
      return padded(cut(text, spec.precision), without_zero(spec), '>');
    }
    case 'c': {
      if (value.is_string() && utf8::length(value.text()) == 1)
        return padded(value.text(), without_zero(spec), '>');
      const auto point = value.integer();
      if (!point || *point < 0 || *point > 0x10FFFF || (*point >= 0xD800 && *point < 0xE000)) {
        return failure(ErrorClass::kType, "%c requires an int or a unicode character");
      }
      std::string text;
      utf8::append(text, static_cast<char32_t>(*point));
      return padded(text, without_zero(spec), '>');
    }
    case 'd':
    case 'i':
    case 'u':
    case 'x':
    case 'X':
    case 'o': {
      GEM8_RETURN_IF_ERROR(need_defined(value));
      auto integer = value.integer();
      if (const auto* number = value.get<double>();
          number && std::string_view("diu").find(spec.type) != std::string_view::npos) {
        if (!(std::abs(*number) < 1e38))
          return failure(ErrorClass::kValue, "cannot convert this float to integer");
        integer = static_cast<Integer>(*number);
      }
      if (!integer)
        return failure(ErrorClass::kType, "%{} format: a real number is required, not {}",
                       spec.type, value.type_name());
      return integer_field(*integer, spec);
    }
    default: {
      GEM8_RETURN_IF_ERROR(need_defined(value));
      const auto number = value.number();
      if (!number)
        return failure(ErrorClass::kType, "must be real number, not {}", value.type_name());
      return float_field(*number, spec);
    }
  }
}

}  // namespace

Outcome<std::string> percent_format(Runtime& runtime, std::string_view format,
                                    const Value& arguments) {
  const auto* tuple = arguments.get<Value::Sequence>();
  const bool is_tuple = tuple != nullptr && tuple->is_tuple;
  std::size_t used = 0;
  const auto next_argument = [&]() -> Outcome<Value> {
    if (is_tuple ? used >= tuple->items->size() : used >= 1)
      return failure(ErrorClass::kType, "not enough arguments for format string");
    return is_tuple ? (*tuple->items)[used++] : (++used, arguments);
  };
  std::string out;
  for (std::size_t i = 0; i < format.size();) {
    if (format[i] != '%') {
      out += format[i++];
      continue;
    }
    GEM8_RETURN_IF_ERROR(runtime.charge(1));
    ++i;
    std::optional<Value> named;
    if (i < format.size() && format[i] == '(') {
      const std::size_t close = format.find(')', i);
      if (close == std::string_view::npos)
        return failure(ErrorClass::kValue, "incomplete format key");
      const Dict* dict = arguments.mapping();
      if (dict == nullptr) return failure(ErrorClass::kType, "format requires a mapping");
      const Value* value = dict->find(format.substr(i + 1, close - i - 1));
      if (value == nullptr)
        return failure(ErrorClass::kRuntime, "KeyError: '{}'", format.substr(i + 1, close - i - 1));
      named = *value;
      i = close + 1;
    }
    Spec spec;
    for (; i < format.size() && std::string_view("-+ 0#").find(format[i]) != std::string_view::npos;
         ++i) {
      if (format[i] == '-') spec.align = '<';
      if (format[i] == '+') spec.sign = '+';
      if (format[i] == ' ' && spec.sign != '+') spec.sign = ' ';
      if (format[i] == '0') spec.zero = true;
      if (format[i] == '#') spec.alternate = true;
    }
    const auto star = [&](int& slot) -> Outcome<void> {
      GEM8_TRY(const Value value, next_argument());
      GEM8_TRY(const std::int64_t number, need_integer(value, "* in a format"));
      slot = static_cast<int>(std::clamp<std::int64_t>(number, 0, kMaxWidth + 1));
      ++i;
      return {};
    };
    if (i < format.size() && format[i] == '*') {
      GEM8_RETURN_IF_ERROR(star(spec.width));
    } else {
      i = read_number(format, i, spec.width);
    }
    if (i < format.size() && format[i] == '.') {
      spec.precision = 0;
      if (++i < format.size() && format[i] == '*') {
        GEM8_RETURN_IF_ERROR(star(spec.precision));
      } else {
        i = read_number(format, i, spec.precision);
      }
    }
    if (spec.width > kMaxWidth || spec.precision > kMaxWidth)
      return failure(ErrorClass::kLimit, "a format wider than {}", kMaxWidth);
    while (i < format.size() && (format[i] == 'l' || format[i] == 'h' || format[i] == 'L')) ++i;
    if (i >= format.size()) return failure(ErrorClass::kValue, "incomplete format");
    spec.type = format[i++];
    if (spec.type == '%') {
      out += '%';
      continue;
    }
    if (std::string_view("sradiuxXofFeEgGc").find(spec.type) == std::string_view::npos) {
      return failure(ErrorClass::kValue, "unsupported format character '{}'", spec.type);
    }
    if (!named) {
      GEM8_TRY(named, next_argument());
    }
    GEM8_TRY(const std::string field, percent_field(*named, spec));
    out += field;
  }
  // Python lets pass what could be asked for a key: all that has [], an undefined value included.
  const bool has_keys = arguments.mapping() != nullptr || arguments.items() != nullptr ||
                        arguments.get<Value::Range>() != nullptr || arguments.is_undefined();
  if (is_tuple ? used < tuple->items->size() : used == 0 && !has_keys) {
    return failure(ErrorClass::kType, "not all arguments converted during string formatting");
  }
  return out;
}

namespace {

Outcome<Spec> read_spec(std::string_view text) {
  Spec spec;
  std::size_t i = 0;
  bool has_fill = false;
  const auto is_align = [](char c) { return c == '<' || c == '>' || c == '^' || c == '='; };
  if (!text.empty()) {
    const std::size_t after = utf8::decode_at(text, 0).next;
    if (after < text.size() && is_align(text[after])) {
      spec.fill = text.substr(0, after);
      has_fill = true;
      spec.align = text[after];
      i = after + 1;
    } else if (is_align(text[0])) {
      spec.align = text[0];
      i = 1;
    }
  }
  if (i < text.size() && (text[i] == '+' || text[i] == '-' || text[i] == ' '))
    spec.sign = text[i++];
  if (i < text.size() && text[i] == '#') {
    spec.alternate = true;
    ++i;
  }
  if (i < text.size() && text[i] == '0') {
    spec.zero = true;
    if (!has_fill) spec.fill = "0";
    ++i;
  }
  i = read_number(text, i, spec.width);
  if (i < text.size() && text[i] == ',') {
    spec.comma = true;
    ++i;
  }
  if (i < text.size() && text[i] == '.') {
    spec.precision = 0;
    i = read_number(text, i + 1, spec.precision);
  }
  if (i < text.size()) spec.type = text[i++];
  if (i != text.size()) return failure(ErrorClass::kValue, "Invalid format specifier '{}'", text);
  if (spec.width > kMaxWidth || spec.precision > kMaxWidth)
    return failure(ErrorClass::kLimit, "a format wider than {}", kMaxWidth);
  return spec;
}

Outcome<std::string> brace_value(const Value& value, std::string_view spec_text) {
  if (spec_text.empty()) return to_str(value);
  GEM8_TRY(const Spec spec, read_spec(spec_text));
  if (value.is_string()) {
    if (spec.type != '\0' && spec.type != 's')
      return failure(ErrorClass::kValue, "Unknown format code '{}' for object of type 'str'",
                     spec.type);
    if (spec.comma || spec.sign != '-' || spec.align == '=' || spec.alternate)
      return failure(ErrorClass::kValue, "the format '{}' is not one of text", spec_text);
    return padded(cut(value.text(), spec.precision), without_zero(spec), '<');
  }
  GEM8_RETURN_IF_ERROR(need_defined(value));
  const auto integer = value.integer();
  if (integer && spec.precision >= 0 && !is_float_type(spec.type))
    return failure(ErrorClass::kValue, "Precision not allowed in integer format specifier");
  if (integer &&
      (spec.type == '\0' || std::string_view("dxXob").find(spec.type) != std::string_view::npos)) {
    return integer_field(*integer, spec);
  }
  const auto number = value.number();
  if (number && is_float_type(spec.type)) return float_field(*number, spec);
  if (number && spec.type == '\0' && spec.precision < 0) {
    std::string digits = float_text(std::abs(*number));
    if (spec.comma) insert_commas(digits);
    return padded(with_sign(std::move(digits), std::signbit(*number), spec.sign), spec, '>');
  }
  return failure(ErrorClass::kValue, "the format '{}' is not implemented for {}", spec_text,
                 value.type_name());
}

}  // namespace

Outcome<std::string> brace_format(Runtime& runtime, std::string_view format,
                                  const Arguments& arguments) {
  std::string out;
  std::size_t automatic = 0;
  for (std::size_t i = 0; i < format.size(); ++i) {
    const char c = format[i];
    if ((c == '{' || c == '}') && i + 1 < format.size() && format[i + 1] == c) {
      out += c;
      ++i;
      continue;
    }
    if (c == '}') return failure(ErrorClass::kValue, "Single '}}' encountered in format string");
    if (c != '{') {
      out += c;
      continue;
    }
    GEM8_RETURN_IF_ERROR(runtime.charge(1));
    const std::size_t close = format.find('}', i);
    if (close == std::string_view::npos)
      return failure(ErrorClass::kValue, "expected '}}' before end of string");
    std::string_view field = format.substr(i + 1, close - i - 1);
    i = close;
    if (field.find('{') != std::string_view::npos)
      return failure(ErrorClass::kValue, "nested format fields are not implemented");
    std::string_view spec;
    if (const std::size_t colon = field.find(':'); colon != std::string_view::npos) {
      spec = field.substr(colon + 1);
      field = field.substr(0, colon);
    }
    char conversion = '\0';
    if (const std::size_t mark = field.find('!'); mark != std::string_view::npos) {
      if (field.substr(mark + 1) != "r" && field.substr(mark + 1) != "s")
        return failure(ErrorClass::kValue, "unknown conversion in '{}'", field);
      conversion = field[mark + 1];
      field = field.substr(0, mark);
    }
    std::size_t path = field.find_first_of(".[");
    const std::string_view name = field.substr(0, path);
    Value value;
    if (name.empty() || (name[0] >= '0' && name[0] <= '9')) {
      std::size_t index = automatic;
      if (name.empty()) {
        ++automatic;
      } else if (std::from_chars(name.data(), name.data() + name.size(), index).ec != std::errc()) {
        return failure(ErrorClass::kValue, "format field '{}'", name);
      }
      if (index >= arguments.positional.size())
        return failure(ErrorClass::kRuntime, "Replacement index {} out of range", index);
      value = arguments.positional[index];
    } else {
      const auto place = std::ranges::find(
          arguments.named, name, [](const auto& pair) { return std::string_view(pair.first); });
      if (place == arguments.named.end())
        return failure(ErrorClass::kRuntime, "KeyError: '{}'", name);
      value = place->second;
    }
    while (path != std::string_view::npos && path < field.size()) {
      if (field[path] == '.') {
        const std::size_t end = std::min(field.find_first_of(".[", path + 1), field.size());
        GEM8_TRY(value, attribute(value, field.substr(path + 1, end - path - 1)));
        path = end;
      } else {
        const std::size_t end = field.find(']', path);
        if (end == std::string_view::npos)
          return failure(ErrorClass::kValue, "Missing ']' in format string");
        const std::string key(field.substr(path + 1, end - path - 1));
        std::int64_t index = 0;
        const auto [stop, error] = std::from_chars(key.data(), key.data() + key.size(), index);
        const bool is_index = error == std::errc() && stop == key.data() + key.size();
        GEM8_TRY(value, subscript(runtime, value, is_index ? Value(index) : Value(key)));
        path = end + 1;
      }
    }
    if (conversion == 'r') {
      GEM8_TRY(std::string text, to_repr(value));
      value = Value(std::move(text));
    } else if (conversion == 's') {
      GEM8_TRY(std::string text, to_str(value));
      value = Value(std::move(text));
    }
    GEM8_TRY(const std::string text, brace_value(value, spec));
    out += text;
    if (out.size() > (std::size_t{32} << 20))
      return failure(ErrorClass::kLimit, "a formatted text of more than 32 MiB");
  }
  return out;
}

}  // namespace gem8::jinja
