#include "text/jinja/python/text_methods.h"

#include <utf8proc.h>

#include <algorithm>

#include "text/jinja/python/access.h"
#include "text/jinja/python/formatting.h"
#include "text/jinja/python/need.h"
#include "text/jinja/python/text_search.h"
#include "text/jinja/python/text_split.h"
#include "text/unicode/python_text.h"
#include "text/unicode/utf8.h"

namespace gem8::jinja {
namespace {

template <std::string change(std::string_view)>
Outcome<Value> changed(Runtime&, const Bound& a) {
  return Value(change(a[0]->text()));
}

Outcome<Value> strip(Runtime&, const Bound& a) {
  std::string_view part = a[0]->text();
  const bool left = a.function != "rstrip", right = a.function != "lstrip";
  if (!a.has(1)) {
    if (left) part = python::lstrip(part);
    if (right) part = python::rstrip(part);
    return Value(part);
  }
  GEM8_TRY(const std::string set, a.text(1));
  if (left) part = python::lstrip(part, set);
  if (right) part = python::rstrip(part, set);
  return Value(part);
}

Outcome<Value> remove_affix(Runtime&, const Bound& a) {
  std::string_view part = a[0]->text();
  GEM8_TRY(const std::string affix, a.text(1));
  if (a.function == "removeprefix" && part.starts_with(affix)) part.remove_prefix(affix.size());
  if (a.function == "removesuffix" && part.ends_with(affix)) part.remove_suffix(affix.size());
  return Value(part);
}

Outcome<Value> replace(Runtime&, const Bound& a) {
  const std::string_view text = a[0]->text();
  GEM8_TRY(const std::string from, a.text(1));
  GEM8_TRY(const std::string to, a.text(2));
  GEM8_TRY(std::int64_t limit, a.integer(3, -1));
  std::string out;
  constexpr std::size_t kMaxBytes = std::size_t{32} << 20;
  std::size_t at = 0;
  while (limit != 0) {
    std::size_t found = text.find(from, at);
    if (found == std::string_view::npos) break;
    out += text.substr(at, found - at);
    out += to;
    at = found + from.size();
    --limit;
    if (out.size() > kMaxBytes)
      return failure(ErrorClass::kLimit, "a text of more than {} bytes", kMaxBytes);
    if (from.empty()) {  // between all characters
      if (at >= text.size()) return Value(std::move(out));
      const std::size_t next = utf8::decode_at(text, at).next;
      out += text.substr(at, next - at);
      at = next;
    }
  }
  out += text.substr(at);
  return Value(std::move(out));
}

Outcome<Value> join(Runtime& runtime, const Bound& a) {
  const std::string& separator = a[0]->text();
  GEM8_TRY(const List items, iterate(runtime, *a[1]));
  std::string out;
  for (std::size_t i = 0; i < items.size(); ++i) {
    if (!items[i].is_string()) {
      return failure(ErrorClass::kType, "sequence item {}: expected str instance, {} found", i,
                     items[i].type_name());
    }
    GEM8_RETURN_IF_ERROR(runtime.charge(1 + (separator.size() + items[i].text().size()) / 64));
    if (i > 0) out += separator;
    out += items[i].text();
  }
  return Value(std::move(out));
}

Outcome<Value> format(Runtime& runtime, const Bound& a) {
  GEM8_TRY(std::string out, brace_format(runtime, a[0]->text(), a.rest));
  return Value(std::move(out));
}

Outcome<Value> encode(Runtime&, const Bound& a) {
  if (a[1] && !(a[1]->is_string() && (a[1]->text() == "utf-8" || a[1]->text() == "utf8")))
    return failure(ErrorClass::kRuntime, "only UTF-8 is implemented for encode()");
  return Value(Value::Bytes{std::make_shared<const std::string>(a[0]->text())});
}

Outcome<Value> pad(Runtime&, const Bound& a) {
  const std::string_view text = a[0]->text(), name = a.function;
  GEM8_TRY(const std::int64_t width, need_integer(*a[1], name));
  std::string fill = name == "zfill" ? "0" : " ";
  if (name != "zfill" && a[2]) {
    GEM8_TRY(fill, a.text(2));
    if (utf8::length(fill) != 1)
      return failure(ErrorClass::kType, "The fill character must be exactly one character long");
  }
  const auto n = static_cast<std::int64_t>(utf8::length(text));
  if (width <= n) return Value(text);
  if (width > 100000) return failure(ErrorClass::kLimit, "{}: a width of {}", name, width);
  const std::int64_t gap = width - n;
  // CPython puts the odd space on the left when both the gap and the width are odd.
  const std::int64_t left = name == "ljust"    ? 0
                            : name == "center" ? gap / 2 + (gap & width & 1)
                                               : gap;
  const auto times = [&](std::int64_t count) {
    std::string out;
    for (std::int64_t i = 0; i < count; ++i) out += fill;
    return out;
  };
  if (name == "zfill" && !text.empty() && (text[0] == '-' || text[0] == '+')) {
    return Value(std::string(1, text[0]) + times(gap) + std::string(text.substr(1)));
  }
  return Value(times(left) + std::string(text) + times(gap - left));
}

/// Superscripts, fractions, Roman numerals and the like: numbers that are not decimal digits.
bool is_other_number(char32_t point) {
  const auto category = utf8proc_category(static_cast<utf8proc_int32_t>(point));
  return category == UTF8PROC_CATEGORY_NO || category == UTF8PROC_CATEGORY_NL;
}

Outcome<Value> classify(Runtime&, const Bound& a) {
  const std::string_view text = a[0]->text(), name = a.function;
  if (name == "isascii")
    return Value(
        std::ranges::all_of(text, [](char c) { return static_cast<unsigned char>(c) < 0x80; }));
  if (text.empty()) return Value(false);
  bool cased = false;
  for (std::size_t i = 0; i < text.size();) {
    const auto [point, next] = utf8::decode_at(text, i);
    i = next;
    if (name == "islower" || name == "isupper") {
      if (!python::is_cased(point)) continue;
      cased = true;
      if (name == "islower" ? !python::is_lower(point) : !python::is_upper(point))
        return Value(false);
      continue;
    }
    // The category does not tell which other numbers are digits, nor which ideographs are numbers.
    const bool unknown = (name == "isdigit" && is_other_number(point)) ||
                         (name == "isnumeric" && point >= 0x2E80 && python::is_alpha(point));
    if (unknown) {
      return failure(ErrorClass::kRuntime, "str.{} of U+{:04X} is not implemented", name,
                     static_cast<std::uint32_t>(point));
    }
    const bool numeric = python::is_decimal(point) || is_other_number(point);
    const bool fits = name == "isspace"     ? python::is_space(point)
                      : name == "isalpha"   ? python::is_alpha(point)
                      : name == "isalnum"   ? python::is_alpha(point) || numeric
                      : name == "isnumeric" ? numeric
                                            : python::is_decimal(point);
    if (!fits) return Value(false);
  }
  return Value(name == "islower" || name == "isupper" ? cased : true);
}

const NativeFunction kTextMethods[] = {
    {"capitalize", changed<python::capitalize>, {"self", "/"}, 1},
    {"casefold", changed<python::casefold>, {"self", "/"}, 1},
    {"center", pad, {"self", "width", "fillchar", "/"}, 2},
    {"count", find_text, {"self", "sub", "start", "end", "/"}, 2},
    {"encode", encode, {"self", "/", "encoding", "errors"}, 1},
    {"endswith", match_end, {"self", "suffix", "start", "end", "/"}, 2},
    {"find", find_text, {"self", "sub", "start", "end", "/"}, 2},
    {"format", format, {"self", "/", "*"}, 1},
    {"index", find_text, {"self", "sub", "start", "end", "/"}, 2},
    {"isalnum", classify, {"self", "/"}, 1},
    {"isalpha", classify, {"self", "/"}, 1},
    {"isascii", classify, {"self", "/"}, 1},
    {"isdecimal", classify, {"self", "/"}, 1},
    {"isdigit", classify, {"self", "/"}, 1},
    {"islower", classify, {"self", "/"}, 1},
    {"isnumeric", classify, {"self", "/"}, 1},
    {"isspace", classify, {"self", "/"}, 1},
    {"isupper", classify, {"self", "/"}, 1},
    {"join", join, {"self", "iterable", "/"}, 2},
    {"ljust", pad, {"self", "width", "fillchar", "/"}, 2},
    {"lower", changed<python::lower>, {"self", "/"}, 1},
    {"lstrip", strip, {"self", "chars", "/"}, 1},
    {"partition", partition_text, {"self", "sep", "/"}, 2},
    {"removeprefix", remove_affix, {"self", "prefix", "/"}, 2},
    {"removesuffix", remove_affix, {"self", "suffix", "/"}, 2},
    {"replace", replace, {"self", "old", "new", "/", "count"}, 3},  // count by name: Python 3.13
    {"rfind", find_text, {"self", "sub", "start", "end", "/"}, 2},
    {"rindex", find_text, {"self", "sub", "start", "end", "/"}, 2},
    {"rjust", pad, {"self", "width", "fillchar", "/"}, 2},
    {"rpartition", partition_text, {"self", "sep", "/"}, 2},
    {"rsplit", split_text, {"self", "/", "sep", "maxsplit"}, 1},
    {"rstrip", strip, {"self", "chars", "/"}, 1},
    {"split", split_text, {"self", "/", "sep", "maxsplit"}, 1},
    {"splitlines", split_lines, {"self", "/", "keepends"}, 1},
    {"startswith", match_end, {"self", "prefix", "start", "end", "/"}, 2},
    {"strip", strip, {"self", "chars", "/"}, 1},
    {"swapcase", changed<python::swapcase>, {"self", "/"}, 1},
    {"title", changed<python::title>, {"self", "/"}, 1},
    {"upper", changed<python::upper>, {"self", "/"}, 1},
    {"zfill", pad, {"self", "width", "/"}, 2},
    {"expandtabs", nullptr, {}, 0},
    {"format_map", nullptr, {}, 0},
    {"isidentifier", nullptr, {}, 0},
    {"isprintable", nullptr, {}, 0},
    {"istitle", nullptr, {}, 0},
    {"maketrans", nullptr, {}, 0},
    {"translate", nullptr, {}, 0},
};

}  // namespace

std::span<const NativeFunction> text_methods() {
  return kTextMethods;
}

}  // namespace gem8::jinja
