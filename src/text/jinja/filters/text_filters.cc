#include "text/jinja/filters/families.h"

#include <algorithm>

#include "text/jinja/python/formatting.h"
#include "text/jinja/python/methods.h"
#include "text/jinja/python/need.h"
#include "text/jinja/value/repr.h"
#include "text/unicode/python_text.h"
#include "text/unicode/utf8.h"

namespace gem8::jinja {
namespace {

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
  if (!a.has(1)) return Value(python::strip(text));
  GEM8_TRY(const std::string set, to_str(*a[1]));
  return Value(python::lstrip(python::rstrip(text, set), set));
}

Outcome<Value> replace(Runtime& runtime, const Bound& a) {
  GEM8_TRY(std::string text, to_str(*a[0]));
  GEM8_TRY(std::string from, to_str(*a[1]));
  GEM8_TRY(std::string to, to_str(*a[2]));
  List arguments{Value(std::move(from)), Value(std::move(to))};
  if (a.has(3)) arguments.push_back(*a[3]);
  return call_text_method(runtime, "replace", std::move(text), std::move(arguments));
}
Outcome<Value> center(Runtime& runtime, const Bound& a) {
  GEM8_TRY(std::string text, to_str(*a[0]));
  return call_text_method(runtime, "center", std::move(text), {a[1] ? *a[1] : Value(80)});
}
Outcome<Value> format(Runtime& runtime, const Bound& a) {
  GEM8_TRY(const std::string text, to_str(*a[0]));
  Value arguments = Value::tuple(a.rest.positional);
  if (!a.rest.named.empty()) {
    if (!a.rest.positional.empty())
      return failure(ErrorClass::kType,
                     "can't handle positional and keyword arguments at the same time");
    Dict members;
    for (const auto& [name, value] : a.rest.named) members.set(name, value);
    arguments = Value::dict(std::move(members));
  }
  GEM8_TRY(std::string out, percent_format(runtime, text, arguments));
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
  const bool first = a.flag(2), blank = a.flag(3);
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
  GEM8_TRY(const std::int64_t length, a.integer(1, 255));
  GEM8_TRY(const std::string end, a.str(3, "..."));
  GEM8_TRY(const std::int64_t leeway, a.integer(4, 5));
  const auto n = static_cast<std::int64_t>(utf8::length(text));
  const auto n_end = static_cast<std::int64_t>(utf8::length(end));
  if (length < n_end || leeway < 0)
    return failure(ErrorClass::kRuntime, "truncate: expected length >= {}, got {}", n_end, length);
  if (n <= length + leeway) return Value(text);
  std::size_t at = 0;
  for (std::int64_t i = 0; i < length - n_end; ++i) at = utf8::decode_at(text, at).next;
  std::string kept = text.substr(0, at);
  if (!a.flag(2)) {
    if (const std::size_t space = kept.rfind(' '); space != std::string::npos) kept.resize(space);
  }
  return Value(kept + end);
}

Outcome<Value> wordwrap(Runtime&, const Bound& a) {
  GEM8_TRY(const std::string text, need_text(*a[0], "wordwrap"));
  GEM8_TRY(const std::int64_t width, a.integer(1, 79));
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

const NativeFunction kFilters[] = {
    {"capitalize", capitalize, {"s"}, 1},
    {"center", center, {"value", "width"}, 1},
    {"format", format, {"value", "/", "*"}, 1},
    {"indent", indent, {"s", "width", "first", "blank"}, 1},
    {"lower", lower, {"s"}, 1},
    {"replace", replace, {"s", "old", "new", "count"}, 3},
    {"title", title, {"s"}, 1},
    {"trim", trim, {"value", "chars"}, 1},
    {"truncate", truncate, {"s", "length", "killwords", "end", "leeway"}, 1},
    {"upper", upper, {"s"}, 1},
    {"wordcount", wordcount, {"s"}, 1},
    {"wordwrap", wordwrap, {"s", "width", "break_long_words", "wrapstring", "break_on_hyphens"}, 1},
};

}  // namespace

std::span<const NativeFunction> text_filters() {
  return kFilters;
}

}  // namespace gem8::jinja
