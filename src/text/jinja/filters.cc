// Jinja2's built-in filters, and tojson as transformers replaces it.
#include "text/jinja/filters.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "text/unicode/python_text.h"
#include "text/unicode/utf8.h"

namespace gem8::jinja {
namespace {

using Bound = std::vector<std::optional<Value>>;
/// `a[0]` is the value on the left; the others are the filter's parameters in order, absent ones
/// empty.
using FilterBody = Outcome<Value> (*)(Runtime& runtime, const Bound& a);
using FreeFilter = Outcome<Value> (*)(Runtime& runtime, Arguments arguments);

bool flag(const std::optional<Value>& value, bool fallback = false) {
  return value ? value->truthy() : fallback;
}
Outcome<std::int64_t> number(const std::optional<Value>& value, std::int64_t fallback,
                             std::string_view what) {
  if (!value || value->is_none()) return fallback;
  return need_integer(*value, what);
}
Outcome<std::string> text_or(const std::optional<Value>& value, std::string_view fallback) {
  if (!value) return std::string(fallback);
  return to_str(*value);
}
Outcome<Value> made(Outcome<std::string> text) {
  if (!text) return std::unexpected(std::move(text.error()));
  return Value(std::move(*text));
}

/// A value's member by a path such as "function.name" or "0"; `fallback` in place of undefined.
Outcome<Value> member_of(Runtime& runtime, Value value, const Value& path,
                         const Value* fallback = nullptr) {
  if (!path.is_string()) {
    GEM8_TRY(value, subscript(runtime, value, path));
  } else {
    std::string_view rest = path.text();
    for (;;) {
      const std::size_t dot = rest.find('.');
      const std::string name(rest.substr(0, dot));
      const bool is_index =
          !name.empty() && std::ranges::all_of(name, [](char c) { return c >= '0' && c <= '9'; });
      std::int64_t index = 0;
      std::from_chars(name.data(), name.data() + name.size(), index);
      GEM8_TRY(value, subscript(runtime, value, is_index ? Value(index) : Value(name)));
      if (value.is_undefined() && fallback != nullptr) return *fallback;
      if (dot == std::string_view::npos) break;
      rest.remove_prefix(dot + 1);
    }
  }
  if (value.is_undefined() && fallback != nullptr) return *fallback;
  return value;
}

Value folded(const Value& value, bool case_sensitive) {
  return value.is_string() && !case_sensitive ? Value(python::lower(value.text())) : value;
}

Outcome<void> sort_keyed(Runtime& runtime, std::vector<std::pair<Value, Value>>& keyed,
                         bool reverse) {
  std::optional<TemplateError> error;
  std::uint64_t work = 1;
  const auto before = [&](const auto& a, const auto& b) {
    work += std::min(a.first.weight(), b.first.weight());
    auto smaller = reverse ? less(b.first, a.first) : less(a.first, b.first);
    if (!smaller && !error) error = std::move(smaller.error());
    return smaller && *smaller;
  };
  std::ranges::stable_sort(keyed, before);
  if (error) return std::unexpected(std::move(*error));
  return runtime.charge(work);
}

List values_of(std::vector<std::pair<Value, Value>> keyed) {
  List out;
  for (auto& pair : keyed) out.push_back(std::move(pair.second));
  return out;
}

// --- text ---

Outcome<Value> upper(Runtime&, const Bound& a) {
  GEM8_TRY(const std::string text, to_str(*a[0]));
  return Value(python::upper(text));
}
Outcome<Value> lower(Runtime&, const Bound& a) {
  GEM8_TRY(const std::string text, to_str(*a[0]));
  return Value(python::lower(text));
}
Outcome<Value> capitalize(Runtime&, const Bound& a) {
  GEM8_TRY(const std::string text, to_str(*a[0]));
  return Value(python::capitalize(text));
}
Outcome<Value> title(Runtime&, const Bound& a) {
  GEM8_TRY(const std::string text, to_str(*a[0]));
  std::string out;
  std::size_t start = 0;
  const auto flush = [&](std::size_t end) {  // one word: first character up, the rest down
    if (end == start) return;
    const std::size_t second = utf8::decode_at(text, start).next;
    out += python::upper(text.substr(start, second - start));
    out += python::lower(text.substr(second, end - second));
  };
  for (std::size_t i = 0; i < text.size();) {
    const auto [point, next] = utf8::decode_at(text, i);
    if (point == '-' || point == '(' || point == '{' || point == '[' || point == '<' ||
        python::is_space(point)) {
      flush(i);
      out += text.substr(i, next - i);
      start = next;
    }
    i = next;
  }
  flush(text.size());
  return Value(std::move(out));
}
Outcome<Value> trim(Runtime&, const Bound& a) {
  GEM8_TRY(const std::string text, to_str(*a[0]));
  if (!a[1] || a[1]->is_none()) return Value(python::strip(text));
  GEM8_TRY(const std::string set, to_str(*a[1]));
  return Value(python::lstrip(python::rstrip(text, set), set));
}
Outcome<Value> replace(Runtime& runtime, const Bound& a) {
  GEM8_TRY(std::string text, to_str(*a[0]));
  GEM8_TRY(std::string from, to_str(*a[1]));
  GEM8_TRY(std::string to, to_str(*a[2]));
  Method method;
  method.self = Value(std::move(text));
  method.name = "replace";
  Arguments arguments{{Value(std::move(from)), Value(std::move(to))}, {}};
  if (a[3] && !a[3]->is_none()) arguments.positional.push_back(*a[3]);
  return call_method(runtime, method, std::move(arguments));
}
Outcome<Value> string(Runtime&, const Bound& a) {
  return made(to_str(*a[0]));
}
Outcome<Value> safe(Runtime&, const Bound& a) {
  return made(to_str(*a[0]));
}
Outcome<Value> escape(Runtime&, const Bound& a) {
  GEM8_TRY(const std::string text, to_str(*a[0]));
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&#34;";
        break;
      case '\'':
        out += "&#39;";
        break;
      default:
        out += c;
    }
  }
  return Value(std::move(out));
}
Outcome<Value> indent(Runtime& runtime, const Bound& a) {
  GEM8_TRY(const std::string text, need_text(*a[0], "indent"));
  std::string width(4, ' ');
  if (a[1] && a[1]->is_string()) {
    width = a[1]->text();
  } else if (a[1]) {
    GEM8_TRY(const std::int64_t n, need_integer(*a[1], "indent"));
    if (n > 10000) return failure(ErrorClass::kLimit, "indent by {}", n);
    width.assign(static_cast<std::size_t>(std::max<std::int64_t>(n, 0)), ' ');
  }
  const bool first = flag(a[2]), blank = flag(a[3]);
  std::string out;
  bool first_line = true;
  std::string_view rest = text;
  for (;;) {
    const std::size_t end = rest.find('\n');
    const std::string_view line = rest.substr(0, end);
    GEM8_RETURN_IF_ERROR(runtime.charge(1 + (line.size() + width.size()) / 64));
    if (!first_line) out += '\n';
    if (first_line ? first : blank || !line.empty()) out += width;
    out += line;
    first_line = false;
    if (end == std::string_view::npos) break;
    rest.remove_prefix(end + 1);
  }
  return Value(std::move(out));
}
Outcome<Value> center(Runtime& runtime, const Bound& a) {
  GEM8_TRY(std::string text, to_str(*a[0]));
  Method method;
  method.self = Value(std::move(text));
  method.name = "center";
  return call_method(runtime, method, {{a[1] ? *a[1] : Value(80)}, {}});
}
Outcome<Value> wordcount(Runtime&, const Bound& a) {
  GEM8_TRY(const std::string text, to_str(*a[0]));
  std::int64_t n = 0;
  bool inside = false;
  for (std::size_t i = 0; i < text.size();) {
    const auto [point, next] = utf8::decode_at(text, i);
    const bool word = python::is_alpha(point) || python::is_decimal(point) || point == '_';
    n += word && !inside;
    inside = word;
    i = next;
  }
  return Value(n);
}
Outcome<Value> truncate(Runtime&, const Bound& a) {
  if (a[0]->is_undefined()) return *a[0];
  GEM8_TRY(const std::string text, need_text(*a[0], "truncate"));
  GEM8_TRY(const std::int64_t length, number(a[1], 255, "truncate"));
  GEM8_TRY(const std::string end, text_or(a[3], "..."));
  GEM8_TRY(const std::int64_t leeway, number(a[4], 5, "truncate"));
  const auto n = static_cast<std::int64_t>(utf8::length(text));
  const auto n_end = static_cast<std::int64_t>(utf8::length(end));
  if (length < n_end || leeway < 0)
    return failure(ErrorClass::kRuntime, "truncate: expected length >= {}, got {}", n_end, length);
  if (n <= length + leeway) return Value(text);
  std::size_t at = 0;
  for (std::int64_t i = 0; i < length - n_end; ++i) at = utf8::decode_at(text, at).next;
  std::string kept = text.substr(0, at);
  if (!flag(a[2])) {
    if (const std::size_t space = kept.rfind(' '); space != std::string::npos) kept.resize(space);
  }
  return Value(kept + end);
}
Outcome<Value> wordwrap(Runtime&, const Bound& a) {
  GEM8_TRY(const std::string text, need_text(*a[0], "wordwrap"));
  GEM8_TRY(const std::int64_t width, number(a[1], 79, "wordwrap"));
  if (a[2] || a[3] || a[4] || width < 1 || text.find('-') != std::string::npos ||
      text.find('\t') != std::string::npos) {
    return failure(ErrorClass::kRuntime,
                   "wordwrap is implemented for a width and words without hyphens only");
  }
  std::string out, line;
  const auto end_line = [&] {
    while (line.ends_with(' ')) line.pop_back();
    if (!out.empty()) out += '\n';
    out += line;
    line.clear();
  };
  for (std::size_t i = 0; i < text.size();) {
    if (text[i] == '\n')
      return failure(ErrorClass::kRuntime, "wordwrap of several lines is not implemented");
    std::size_t end = i;
    const bool space = text[i] == ' ';
    while (end < text.size() && (text[end] == ' ') == space && text[end] != '\n') ++end;
    const std::string chunk = text.substr(i, end - i);
    const auto n = static_cast<std::int64_t>(utf8::length(chunk));
    if (n > width && !space)
      return failure(ErrorClass::kRuntime,
                     "wordwrap of words longer than a line is not implemented");
    if (static_cast<std::int64_t>(utf8::length(line)) + n > width) end_line();
    if (!(space && line.empty() && !out.empty())) line += chunk;
    i = end;
  }
  end_line();
  return Value(std::move(out));
}
Outcome<Value> striptags(Runtime&, const Bound& a) {
  GEM8_TRY(const std::string text, to_str(*a[0]));
  if (text.find('&') != std::string::npos)
    return failure(ErrorClass::kRuntime, "striptags of text with entities is not implemented");
  std::string bare;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '<') {
      const std::size_t end =
          text.compare(i, 4, "<!--") == 0 ? text.find("-->", i) : text.find('>', i);
      if (end != std::string::npos) {
        i = text[end] == '-' ? end + 2 : end;
        continue;
      }
    }
    bare += text[i];
  }
  std::string out;
  for (std::string_view rest = python::lstrip(bare); !rest.empty();
       rest = python::lstrip(rest)) {  // runs of space become one
    std::size_t end = 0;
    while (end < rest.size() && !python::is_space(utf8::decode_at(rest, end).point))
      end = utf8::decode_at(rest, end).next;
    if (!out.empty()) out += ' ';
    out += rest.substr(0, end);
    rest.remove_prefix(end);
  }
  return Value(std::move(out));
}
Outcome<Value> urlencode(Runtime&, const Bound& a) {
  if (!a[0]->is_string() && !a[0]->is_number())
    return failure(ErrorClass::kRuntime, "urlencode is implemented for text only");
  GEM8_TRY(const std::string text, to_str(*a[0]));
  std::string out;
  for (const char c : text) {
    const bool kept = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                      std::string_view("_.-~/").find(c) != std::string_view::npos;
    out += kept ? std::string(1, c) : fmt::format("%{:02X}", static_cast<unsigned char>(c));
  }
  return Value(std::move(out));
}
Outcome<Value> format(Runtime& runtime, Arguments arguments) {
  if (arguments.positional.empty()) return failure(ErrorClass::kType, "format() needs a text");
  GEM8_TRY(const std::string text, to_str(arguments.positional.front()));
  if (!arguments.named.empty()) {
    if (arguments.positional.size() > 1)
      return failure(ErrorClass::kType,
                     "can't handle positional and keyword arguments at the same time");
    Dict members;
    for (auto& [name, value] : arguments.named) members.set(name, std::move(value));
    return made(percent_format(runtime, text, Value::dict(std::move(members))));
  }
  return made(percent_format(
      runtime, text, Value::tuple({arguments.positional.begin() + 1, arguments.positional.end()})));
}
Outcome<Value> join(Runtime& runtime, const Bound& a) {
  GEM8_TRY(const std::string separator, text_or(a[1], ""));
  GEM8_TRY(const List items, iterate(runtime, *a[0]));
  std::string out;
  for (std::size_t i = 0; i < items.size(); ++i) {
    Value item = items[i];
    if (a[2]) {
      GEM8_TRY(item, member_of(runtime, std::move(item), *a[2]));
    }
    GEM8_TRY(const std::string text, to_str(item));
    GEM8_RETURN_IF_ERROR(runtime.charge(1 + (text.size() + separator.size()) / 64));
    if (i > 0) out += separator;
    out += text;
  }
  return Value(std::move(out));
}
Outcome<Value> tojson(Runtime& runtime, const Bound& a) {
  GEM8_RETURN_IF_ERROR(runtime.charge(a[0]->weight()));
  JsonText style{.ascii = flag(a[1]), .sort_keys = flag(a[4])};
  if (a[2] && a[2]->is_string()) {
    style.indent = a[2]->text();
  } else if (a[2] && !a[2]->is_none()) {
    GEM8_TRY(const std::int64_t n, need_integer(*a[2], "tojson"));
    if (n > 100) return failure(ErrorClass::kLimit, "tojson: an indent of {}", n);
    style.indent = std::string(static_cast<std::size_t>(std::max<std::int64_t>(n, 0)), ' ');
  }
  if (style.indent) style.item_separator = ",";
  if (a[3] && !a[3]->is_none()) {
    GEM8_TRY(const List parts, iterate(runtime, *a[3]));
    if (parts.size() != 2 || !parts[0].is_string() || !parts[1].is_string())
      return failure(ErrorClass::kValue, "tojson: separators are two texts");
    style.item_separator = parts[0].text();
    style.key_separator = parts[1].text();
  }
  return made(to_json(*a[0], style));
}
Outcome<Value> pprint(Runtime&, const Bound& a) {
  GEM8_TRY(std::string text, to_repr(*a[0]));
  if (text.size() > 79 || a[0]->mapping())
    return failure(ErrorClass::kRuntime, "pprint is implemented for short lists only");
  return Value(std::move(text));
}

// --- numbers ---

Outcome<Value> absolute(Runtime&, const Bound& a) {
  GEM8_RETURN_IF_ERROR(need_defined(*a[0]));
  if (const auto x = a[0]->integer()) return *x < 0 ? negate(Value(*x)) : Outcome<Value>(Value(*x));
  if (const auto* x = a[0]->get<double>()) return Value(std::abs(*x));
  return failure(ErrorClass::kType, "bad operand type for abs(): '{}'", a[0]->type_name());
}

std::optional<double> parse_float(std::string_view text) {
  text = python::strip(text);
  std::string digits(text);
  std::erase(digits, '_');
  if (digits.starts_with('+')) digits.erase(0, 1);
  double value = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  if (error == std::errc::result_out_of_range) return digits.front() == '-' ? -HUGE_VAL : HUGE_VAL;
  if (digits.empty() || error != std::errc() || end != digits.data() + digits.size())
    return std::nullopt;
  return value;
}
std::optional<Integer> parse_integer(std::string_view text, std::int64_t base) {
  text = python::strip(text);
  const bool negative = text.starts_with('-');
  if (negative || text.starts_with('+')) text.remove_prefix(1);
  if (text.size() > 2 && text[0] == '0') {
    const char kind = static_cast<char>(text[1] | 0x20);
    const int named = kind == 'x' ? 16 : kind == 'o' ? 8 : kind == 'b' ? 2 : 0;
    if (named != 0 && (base == named || base == 0)) {
      text.remove_prefix(2);
      base = named;
    }
  }
  if (base == 0) base = 10;
  if (text.empty()) return std::nullopt;
  Integer value = 0;
  for (const char c : text) {
    const char low = static_cast<char>(c | 0x20);
    const int digit = c >= '0' && c <= '9'       ? c - '0'
                      : low >= 'a' && low <= 'z' ? low - 'a' + 10
                                                 : 99;
    if (digit >= base || __builtin_mul_overflow(value, static_cast<Integer>(base), &value) ||
        __builtin_add_overflow(value, static_cast<Integer>(digit), &value)) {
      return std::nullopt;
    }
  }
  return negative ? -value : value;
}
Outcome<Value> to_integer(Runtime&, const Bound& a) {
  GEM8_TRY(const std::int64_t base, number(a[2], 10, "int"));
  const Value fallback = a[1] ? *a[1] : Value(0);
  std::optional<double> real;
  if (a[0]->is_string()) {
    if (const auto x = parse_integer(a[0]->text(), base)) return Value(*x);
    real = parse_float(a[0]->text());
  } else if (const auto x = a[0]->integer()) {
    return Value(*x);
  } else if (const auto* value = a[0]->get<double>()) {
    real = *value;
  } else if (a[0]->get<Value::BigNumber>()) {
    return *a[0];
  } else {
    GEM8_RETURN_IF_ERROR(need_defined(*a[0]));
  }
  if (!real || !std::isfinite(*real)) return fallback;
  if (std::abs(*real) >= 1e38) return failure(ErrorClass::kLimit, "int: a number beyond 128 bits");
  return Value(static_cast<Integer>(*real));
}
Outcome<Value> to_float(Runtime&, const Bound& a) {
  GEM8_RETURN_IF_ERROR(need_defined(*a[0]));
  const auto real = a[0]->is_string() ? parse_float(a[0]->text()) : a[0]->number();
  if (real) return Value(*real);
  return a[1] ? *a[1] : Value(0.0);
}
Outcome<Value> round(Runtime&, const Bound& a) {
  GEM8_RETURN_IF_ERROR(need_defined(*a[0]));
  GEM8_TRY(const std::int64_t precision, number(a[1], 0, "round"));
  GEM8_TRY(const std::string method, text_or(a[2], "common"));
  if (method != "common" && method != "ceil" && method != "floor")
    return failure(ErrorClass::kRuntime, "round: method must be common, ceil or floor");
  const auto real = a[0]->number();
  if (!real)
    return failure(ErrorClass::kType, "type {} doesn't define __round__ method", a[0]->type_name());
  if (precision < 0 || precision > 300)
    return failure(ErrorClass::kRuntime, "round: a precision of {} is not implemented", precision);
  if (method == "common") {
    if (a[0]->integer()) return Value(*a[0]->integer());
    if (!std::isfinite(*real)) return Value(*real);
    return Value(*parse_float(fmt::format(
        "{:.{}f}", *real, precision)));  // decimal digits of the exact value, half to even
  }
  const double scale = std::pow(10.0, static_cast<double>(precision));
  const double whole = method == "ceil" ? std::ceil(*real * scale) : std::floor(*real * scale);
  return Value((whole + 0.0) / scale);  // Python goes through an integer, which has no -0
}

// --- sequences ---

Outcome<Value> length(Runtime&, const Bound& a) {
  GEM8_TRY(const std::int64_t n, length_of(*a[0]));
  return Value(n);
}
Outcome<Value> first(Runtime& runtime, const Bound& a) {
  GEM8_TRY(const List items, iterate(runtime, *a[0]));
  return items.empty() ? Value::undefined("No first item, sequence was empty.") : items.front();
}
Outcome<Value> last(Runtime& runtime, const Bound& a) {
  if (a[0]->get<Value::Generator>())
    return failure(ErrorClass::kType, "'generator' object is not reversible");
  GEM8_TRY(const List items, iterate(runtime, *a[0]));
  return items.empty() ? Value::undefined("No last item, sequence was empty.") : items.back();
}
Outcome<Value> random(Runtime& runtime, const Bound& a) {
  GEM8_TRY(const List items,
           iterate(runtime, *a[0]));  // repeatable: the same request renders the same
  return items.empty() ? Value::undefined("No random item, sequence was empty.")
                       : items[items.size() / 2];
}
Outcome<Value> list(Runtime& runtime, const Bound& a) {
  GEM8_TRY(List items, iterate(runtime, *a[0]));
  return bounded(Value::list(std::move(items)));
}
Outcome<Value> reverse(Runtime& runtime, const Bound& a) {
  if (a[0]->is_undefined()) GEM8_RETURN_IF_ERROR(need_defined(*a[0]));
  GEM8_TRY(List items, iterate(runtime, *a[0]));
  std::ranges::reverse(items);
  if (!a[0]->is_string()) return Value::generator(std::move(items));
  std::string out;
  for (const Value& item : items) out += item.text();
  return Value(std::move(out));
}
Outcome<Value> items(Runtime& runtime, const Bound& a) {
  if (a[0]->is_undefined()) return Value::generator({});
  const Dict* dict = a[0]->mapping();
  if (dict == nullptr) return failure(ErrorClass::kType, "Can only get item pairs from a mapping.");
  GEM8_RETURN_IF_ERROR(runtime.charge(dict->size()));
  List out;
  for (const auto& [key, value] : dict->members()) out.push_back(Value::tuple({key, value}));
  return Value::generator(std::move(out));
}
Outcome<Value> dictsort(Runtime& runtime, const Bound& a) {
  const Dict* dict = a[0]->mapping();
  GEM8_RETURN_IF_ERROR(need_defined(*a[0]));
  if (dict == nullptr)
    return failure(ErrorClass::kUndefined, "'{}' object has no attribute 'items'",
                   a[0]->type_name());
  GEM8_TRY(const std::string by, text_or(a[2], "key"));
  if (by != "key" && by != "value")
    return failure(ErrorClass::kRuntime, "dictsort: by is key or value");
  std::vector<std::pair<Value, Value>> keyed;
  for (const auto& [key, value] : dict->members()) {
    keyed.emplace_back(folded(by == "key" ? key : value, flag(a[1])), Value::tuple({key, value}));
  }
  GEM8_RETURN_IF_ERROR(sort_keyed(runtime, keyed, flag(a[3])));
  return bounded(Value::list(values_of(std::move(keyed))));
}
/// What sort and groupby order by: an attribute, several in "a,b", or the value.
Outcome<Value> sort_key(Runtime& runtime, const Value& item, const std::optional<Value>& attribute,
                        const Value* fallback, bool case_sensitive) {
  if (!attribute || attribute->is_none()) return folded(item, case_sensitive);
  if (!attribute->is_string() || attribute->text().find(',') == std::string::npos) {
    GEM8_TRY(const Value value, member_of(runtime, item, *attribute, fallback));
    return folded(value, case_sensitive);
  }
  List keys;
  for (std::string_view rest = attribute->text();;) {
    const std::size_t comma = rest.find(',');
    GEM8_TRY(const Value value, member_of(runtime, item, Value(rest.substr(0, comma)), fallback));
    keys.push_back(folded(value, case_sensitive));
    if (comma == std::string_view::npos) break;
    rest.remove_prefix(comma + 1);
  }
  return Value::list(std::move(keys));
}
Outcome<Value> sort(Runtime& runtime, const Bound& a) {
  GEM8_TRY(const List values, iterate(runtime, *a[0]));
  std::vector<std::pair<Value, Value>> keyed;
  for (const Value& value : values) {
    GEM8_TRY(Value key, sort_key(runtime, value, a[3], nullptr, flag(a[2])));
    keyed.emplace_back(std::move(key), value);
  }
  GEM8_RETURN_IF_ERROR(sort_keyed(runtime, keyed, flag(a[1])));
  return bounded(Value::list(values_of(std::move(keyed))));
}
Outcome<Value> unique(Runtime& runtime, const Bound& a) {
  GEM8_TRY(const List values, iterate(runtime, *a[0]));
  List out, seen;
  for (const Value& value : values) {
    Value key = value;
    if (a[2] && !a[2]->is_none()) {
      GEM8_TRY(key, member_of(runtime, std::move(key), *a[2]));
    }
    key = folded(key, flag(a[1]));
    GEM8_RETURN_IF_ERROR(need_hashable(key));
    GEM8_RETURN_IF_ERROR(runtime.charge(seen.size()));
    if (std::ranges::any_of(seen, [&](const Value& other) { return equal(key, other); })) continue;
    seen.push_back(std::move(key));
    out.push_back(value);
  }
  return Value::generator(std::move(out));
}
Outcome<Value> extreme(Runtime& runtime, const Bound& a, bool largest) {
  GEM8_TRY(const List values, iterate(runtime, *a[0]));
  if (values.empty()) return Value::undefined("No aggregated item, sequence was empty.");
  std::size_t best = 0;
  Value best_key;
  for (std::size_t i = 0; i < values.size(); ++i) {
    GEM8_TRY(Value key, sort_key(runtime, values[i], a[2], nullptr, flag(a[1])));
    if (i > 0) {
      GEM8_TRY(const bool better, largest ? less(best_key, key) : less(key, best_key));
      if (!better) continue;
    }
    best = i;
    best_key = std::move(key);
  }
  return values[best];
}
Outcome<Value> minimum(Runtime& runtime, const Bound& a) {
  return extreme(runtime, a, false);
}
Outcome<Value> maximum(Runtime& runtime, const Bound& a) {
  return extreme(runtime, a, true);
}
Outcome<Value> sum(Runtime& runtime, const Bound& a) {
  GEM8_TRY(const List values, iterate(runtime, *a[0]));
  Value total = a[2] ? *a[2] : Value(0);
  for (Value value : values) {
    if (a[1] && !a[1]->is_none()) {
      GEM8_TRY(value, member_of(runtime, std::move(value), *a[1]));
    }
    GEM8_TRY(total, binary_operation(runtime, "+", total, value));
  }
  return total;
}
Outcome<Value> batch(Runtime& runtime, const Bound& a) {
  GEM8_TRY(const List values, iterate(runtime, *a[0]));
  GEM8_TRY(const std::int64_t n, need_integer(*a[1], "batch"));
  if (n < 1 || n > 100000) return failure(ErrorClass::kValue, "batch: a size of {}", n);
  List out, part;
  for (const Value& value : values) {
    if (part.size() == static_cast<std::size_t>(n))
      out.push_back(Value::list(std::exchange(part, {})));
    part.push_back(value);
  }
  if (!part.empty()) {
    while (a[2] && !a[2]->is_none() && part.size() < static_cast<std::size_t>(n))
      part.push_back(*a[2]);
    out.push_back(Value::list(std::move(part)));
  }
  return Value::generator(std::move(out));
}
Outcome<Value> slices(Runtime& runtime, const Bound& a) {
  GEM8_TRY(const List values, iterate(runtime, *a[0]));
  GEM8_TRY(const std::int64_t n, need_integer(*a[1], "slice"));
  if (n < 1 || n > 100000) return failure(ErrorClass::kValue, "slice: {} parts", n);
  const auto n_parts = static_cast<std::size_t>(n);
  const std::size_t each = values.size() / n_parts, extra = values.size() % n_parts;
  List out;
  std::size_t at = 0;
  for (std::size_t i = 0; i < n_parts; ++i) {
    const std::size_t size = each + (i < extra ? 1 : 0);
    List part(values.begin() + static_cast<std::ptrdiff_t>(at),
              values.begin() + static_cast<std::ptrdiff_t>(at + size));
    at += size;
    if (a[2] && !a[2]->is_none() && i >= extra) part.push_back(*a[2]);
    out.push_back(Value::list(std::move(part)));
  }
  return Value::generator(std::move(out));
}
Outcome<Value> groupby(Runtime& runtime, const Bound& a) {
  GEM8_TRY(const List values, iterate(runtime, *a[0]));
  const Value* fallback = a[2] ? &*a[2] : nullptr;
  std::vector<std::pair<Value, Value>> keyed;
  for (const Value& value : values) {
    GEM8_TRY(Value key, sort_key(runtime, value, a[1], fallback, flag(a[3])));
    keyed.emplace_back(std::move(key), value);
  }
  GEM8_RETURN_IF_ERROR(sort_keyed(runtime, keyed, false));
  List out, group;
  for (std::size_t i = 0; i < keyed.size(); ++i) {
    group.push_back(keyed[i].second);
    if (i + 1 < keyed.size() && equal(keyed[i].first, keyed[i + 1].first)) continue;
    GEM8_TRY(Value name, member_of(runtime, group.front(), *a[1], fallback));
    out.push_back(Value::group(std::move(name), std::exchange(group, {})));
  }
  return bounded(Value::list(std::move(out)));
}
Outcome<Value> attr(Runtime&, const Bound& a) {
  GEM8_TRY(const std::string name, to_str(*a[1]));
  GEM8_RETURN_IF_ERROR(need_defined(*a[0]));
  if (const auto* names = a[0]->get<Value::Namespace>()) {
    if (const Value* value = names->members->find(name)) return *value;
  }
  if (auto found = method(*a[0], name)) return *found;  // attributes only, never items
  return Value::undefined(
      fmt::format("'{} object' has no attribute '{}'", a[0]->type_name(), name));
}
Outcome<Value> fallback_value(Runtime&, const Bound& a) {
  if (const auto* undefined = a[0]->get<Value::Undefined>(); undefined && undefined->forbidden)
    GEM8_RETURN_IF_ERROR(need_defined(*a[0]));
  if (a[0]->is_undefined() || (flag(a[2]) && !a[0]->truthy())) return a[1] ? *a[1] : Value("");
  return *a[0];
}

// --- filters that apply others to each item ---

Outcome<Value> map(Runtime& runtime, Arguments arguments) {
  if (arguments.positional.empty()) return failure(ErrorClass::kType, "map() needs a value");
  GEM8_TRY(const List values, iterate(runtime, arguments.positional.front()));
  List out;
  if (arguments.positional.size() == 1) {
    GEM8_TRY(const Bound bound,
             bind_arguments("map", {{}, std::move(arguments.named)}, {"attribute", "default"}, 1));
    for (const Value& value : values) {
      GEM8_TRY(Value member, member_of(runtime, value, *bound[0], bound[1] ? &*bound[1] : nullptr));
      out.push_back(std::move(member));
    }
    return Value::generator(std::move(out));
  }
  GEM8_TRY(const std::string name, to_str(arguments.positional[1]));
  for (const Value& value : values) {
    Arguments each{{value}, arguments.named};
    each.positional.insert(each.positional.end(), arguments.positional.begin() + 2,
                           arguments.positional.end());
    GEM8_TRY(Value changed, apply_filter(runtime, name, std::move(each)));
    out.push_back(std::move(changed));
  }
  return Value::generator(std::move(out));
}

Outcome<Value> choose(Runtime& runtime, Arguments arguments, bool by_attribute, bool wanted) {
  if (arguments.positional.size() < (by_attribute ? 2u : 1u))
    return failure(ErrorClass::kType, "missing parameter for attribute name");
  GEM8_TRY(const List values, iterate(runtime, arguments.positional.front()));
  const std::size_t first_of_test = by_attribute ? 2 : 1;
  std::string test;
  if (arguments.positional.size() > first_of_test) {
    GEM8_TRY(test, to_str(arguments.positional[first_of_test]));
    if (!is_test(test)) return failure(ErrorClass::kRuntime, "No test named '{}'.", test);
  }
  List out;
  for (const Value& value : values) {
    GEM8_RETURN_IF_ERROR(runtime.charge(1));
    Value subject = value;
    if (by_attribute) {
      GEM8_TRY(subject, member_of(runtime, std::move(subject), arguments.positional[1]));
    }
    bool fits = false;
    if (test.empty()) {
      fits = subject.truthy();
    } else {
      Arguments each{{std::move(subject)}, arguments.named};
      each.positional.insert(
          each.positional.end(),
          arguments.positional.begin() + static_cast<std::ptrdiff_t>(first_of_test) + 1,
          arguments.positional.end());
      GEM8_TRY(fits, apply_test(runtime, test, std::move(each)));
    }
    if (fits == wanted) out.push_back(value);
  }
  return Value::generator(std::move(out));
}
Outcome<Value> select(Runtime& runtime, Arguments arguments) {
  return choose(runtime, std::move(arguments), false, true);
}
Outcome<Value> reject(Runtime& runtime, Arguments arguments) {
  return choose(runtime, std::move(arguments), false, false);
}
Outcome<Value> selectattr(Runtime& runtime, Arguments arguments) {
  return choose(runtime, std::move(arguments), true, true);
}
Outcome<Value> rejectattr(Runtime& runtime, Arguments arguments) {
  return choose(runtime, std::move(arguments), true, false);
}

struct Entry {
  std::string_view name;
  FilterBody body;
  std::initializer_list<std::string_view> parameters;
  std::size_t n_required;
};

const Entry kFilters[] = {
    {"abs", absolute, {"x"}, 1},
    {"attr", attr, {"obj", "name"}, 2},
    {"batch", batch, {"value", "linecount", "fill_with"}, 2},
    {"capitalize", capitalize, {"s"}, 1},
    {"center", center, {"value", "width"}, 1},
    {"count", length, {"obj"}, 1},
    {"d", fallback_value, {"value", "default_value", "boolean"}, 1},
    {"default", fallback_value, {"value", "default_value", "boolean"}, 1},
    {"dictsort", dictsort, {"value", "case_sensitive", "by", "reverse"}, 1},
    {"e", escape, {"s"}, 1},
    {"escape", escape, {"s"}, 1},
    {"first", first, {"seq"}, 1},
    {"float", to_float, {"value", "default"}, 1},
    {"forceescape", escape, {"value"}, 1},
    {"groupby", groupby, {"value", "attribute", "default", "case_sensitive"}, 2},
    {"indent", indent, {"s", "width", "first", "blank"}, 1},
    {"int", to_integer, {"value", "default", "base"}, 1},
    {"items", items, {"value"}, 1},
    {"join", join, {"value", "d", "attribute"}, 1},
    {"last", last, {"seq"}, 1},
    {"length", length, {"obj"}, 1},
    {"list", list, {"value"}, 1},
    {"lower", lower, {"s"}, 1},
    {"max", maximum, {"value", "case_sensitive", "attribute"}, 1},
    {"min", minimum, {"value", "case_sensitive", "attribute"}, 1},
    {"pprint", pprint, {"value"}, 1},
    {"random", random, {"seq"}, 1},
    {"replace", replace, {"s", "old", "new", "count"}, 3},
    {"reverse", reverse, {"value"}, 1},
    {"round", round, {"value", "precision", "method"}, 1},
    {"safe", safe, {"value"}, 1},
    {"slice", slices, {"value", "slices", "fill_with"}, 2},
    {"sort", sort, {"value", "reverse", "case_sensitive", "attribute"}, 1},
    {"string", string, {"object"}, 1},
    {"striptags", striptags, {"value"}, 1},
    {"sum", sum, {"iterable", "attribute", "start"}, 1},
    {"title", title, {"s"}, 1},
    {"tojson", tojson, {"x", "ensure_ascii", "indent", "separators", "sort_keys"}, 1},
    {"trim", trim, {"value", "chars"}, 1},
    {"truncate", truncate, {"s", "length", "killwords", "end", "leeway"}, 1},
    {"unique", unique, {"value", "case_sensitive", "attribute"}, 1},
    {"upper", upper, {"s"}, 1},
    {"urlencode", urlencode, {"value"}, 1},
    {"wordcount", wordcount, {"s"}, 1},
    {"wordwrap", wordwrap, {"s", "width", "break_long_words", "wrapstring", "break_on_hyphens"}, 1},
};

struct FreeEntry {
  std::string_view name;
  FreeFilter body;
};
const FreeEntry kFreeFilters[] = {{"format", format}, {"map", map},
                                  {"reject", reject}, {"rejectattr", rejectattr},
                                  {"select", select}, {"selectattr", selectattr}};

}  // namespace

bool is_filter(std::string_view name) {
  return std::ranges::any_of(kFilters, [&](const Entry& entry) { return entry.name == name; }) ||
         std::ranges::any_of(kFreeFilters,
                             [&](const FreeEntry& entry) { return entry.name == name; });
}

Outcome<Value> apply_filter(Runtime& runtime, std::string_view name, Arguments arguments) {
  GEM8_RETURN_IF_ERROR(runtime.charge(1));
  for (const FreeEntry& entry : kFreeFilters) {
    if (entry.name == name) return entry.body(runtime, std::move(arguments));
  }
  for (const Entry& entry : kFilters) {
    if (entry.name != name) continue;
    GEM8_TRY(const Bound bound,
             bind_arguments(name, std::move(arguments), entry.parameters, entry.n_required));
    if (bound[0]->is_string()) GEM8_RETURN_IF_ERROR(runtime.charge(bound[0]->text().size() / 64));
    return entry.body(runtime, bound);
  }
  return failure(ErrorClass::kRuntime, "No filter named '{}'.", name);
}

}  // namespace gem8::jinja
