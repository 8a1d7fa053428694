// The methods of Python's built-in types.
#include <utf8proc.h>

#include <algorithm>
#include <cmath>

#include "text/jinja/runtime.h"
#include "text/unicode/python_text.h"
#include "text/unicode/utf8.h"

namespace gem8::jinja {
namespace {

using Texts = std::initializer_list<std::string_view>;
const Texts kTextMethods = {
    "capitalize", "casefold", "center", "count", "encode", "endswith", "find", "format", "index",
    "isalnum", "isalpha", "isascii", "isdecimal", "isdigit", "islower", "isnumeric", "isspace",
    "isupper", "join", "ljust", "lower", "lstrip", "partition", "removeprefix", "removesuffix",
    "replace", "rfind", "rindex", "rjust", "rpartition", "rsplit", "rstrip", "split", "splitlines",
    "startswith", "strip", "swapcase", "title", "upper", "zfill",
    // known, and refused when called
    "expandtabs", "format_map", "isidentifier", "isprintable", "istitle", "maketrans", "translate"};
const Texts kListMethods = {"copy", "count", "index"};
const Texts kListChanges = {"append", "clear",  "extend",  "insert",
                            "pop",    "remove", "reverse", "sort"};
const Texts kTupleMethods = {"count", "index"};
const Texts kDictMethods = {"copy", "get", "items", "keys", "values", "fromkeys"};
const Texts kDictChanges = {"clear", "pop", "popitem", "setdefault", "update"};
const Texts kIntegerMethods = {"bit_length",       "is_integer", "bit_count", "conjugate",
                               "as_integer_ratio", "to_bytes",   "from_bytes"};
const Texts kFloatMethods = {"is_integer", "conjugate", "as_integer_ratio", "hex", "fromhex"};
const Texts kBytesMethods = {"decode", "hex"};

bool among(Texts names, std::string_view name) {
  return std::ranges::find(names, name) != names.end();
}

using Bound = std::vector<std::optional<Value>>;

Outcome<std::int64_t> integer_or(const std::optional<Value>& value, std::int64_t fallback,
                                 std::string_view what) {
  if (!value || value->is_none()) return fallback;
  return need_integer(*value, what);
}

/// Byte offset of the n-th character.
std::size_t offset_of(std::string_view text, std::int64_t n) {
  std::size_t at = 0;
  for (; n > 0 && at < text.size(); --n) at = utf8::decode_at(text, at).next;
  return at;
}

struct Window {
  std::string_view text;
  std::int64_t first;  ///< characters before it
  bool valid;          ///< start is not after the end
};
Outcome<Window> window(std::string_view text, const std::optional<Value>& start,
                       const std::optional<Value>& stop) {
  if (!start && !stop) return Window{text, 0, true};
  const auto n = static_cast<std::int64_t>(utf8::length(text));
  GEM8_TRY(std::int64_t from, integer_or(start, 0, "start"));
  GEM8_TRY(std::int64_t to, integer_or(stop, n, "end"));
  if (from < 0) from = std::max<std::int64_t>(0, from + n);
  if (to < 0) to = std::max<std::int64_t>(0, to + n);
  to = std::min(to, n);
  if (from > to) return Window{{}, from, false};
  const std::size_t begin = offset_of(text, from);
  return Window{text.substr(begin, offset_of(text.substr(begin), to - from)), from, true};
}

List split_space(std::string_view text, std::int64_t limit, bool from_right) {
  List parts;
  if (from_right) {
    for (text = python::rstrip(text); !text.empty(); text = python::rstrip(text)) {
      if (limit == 0) {
        parts.emplace_back(text);
        break;
      }
      --limit;
      std::size_t start = text.size();
      while (start > 0) {
        std::size_t at = start - 1;
        while (at > 0 && (static_cast<unsigned char>(text[at]) & 0xC0) == 0x80) --at;
        if (python::is_space(utf8::decode_at(text, at).point)) break;
        start = at;
      }
      parts.emplace_back(text.substr(start));
      text = text.substr(0, start);
    }
    std::ranges::reverse(parts);
    return parts;
  }
  for (text = python::lstrip(text); !text.empty(); text = python::lstrip(text)) {
    if (limit == 0) {
      parts.emplace_back(text);
      break;
    }
    --limit;
    std::size_t end = 0;
    while (end < text.size()) {
      const auto [point, next] = utf8::decode_at(text, end);
      if (python::is_space(point)) break;
      end = next;
    }
    parts.emplace_back(text.substr(0, end));
    text = text.substr(end);
  }
  return parts;
}

Outcome<Value> split(std::string_view text, const Bound& bound, bool from_right) {
  GEM8_TRY(std::int64_t limit, integer_or(bound[1], -1, "maxsplit"));
  if (!bound[0] || bound[0]->is_none()) return Value::list(split_space(text, limit, from_right));
  GEM8_TRY(const std::string separator, need_text(*bound[0], "split"));
  if (separator.empty()) return failure(ErrorClass::kValue, "empty separator");
  List parts;
  if (from_right) {
    for (; limit != 0; --limit) {
      const std::size_t at = text.rfind(separator);
      if (at == std::string_view::npos) break;
      parts.emplace_back(text.substr(at + separator.size()));
      text = text.substr(0, at);
    }
    parts.emplace_back(text);
    std::ranges::reverse(parts);
  } else {
    for (; limit != 0; --limit) {
      const std::size_t at = text.find(separator);
      if (at == std::string_view::npos) break;
      parts.emplace_back(text.substr(0, at));
      text = text.substr(at + separator.size());
    }
    parts.emplace_back(text);
  }
  return Value::list(std::move(parts));
}

Outcome<Value> replace(std::string_view text, const Bound& bound) {
  GEM8_TRY(const std::string from, need_text(*bound[0], "replace"));
  GEM8_TRY(const std::string to, need_text(*bound[1], "replace"));
  GEM8_TRY(std::int64_t limit, integer_or(bound[2], -1, "count"));
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

Outcome<Value> find_text(std::string_view name, std::string_view text, const Bound& bound) {
  GEM8_TRY(const std::string wanted, need_text(*bound[0], name));
  GEM8_TRY(const Window part, window(text, bound[1], bound[2]));
  if (name == "count") {
    if (!part.valid) return Value(0);
    if (wanted.empty()) return Value(utf8::length(part.text) + 1);
    std::int64_t n = 0;
    for (std::size_t at = part.text.find(wanted); at != std::string_view::npos;
         at = part.text.find(wanted, at + wanted.size()))
      ++n;
    return Value(n);
  }
  const bool last = name[0] == 'r';
  const std::size_t at = !part.valid ? std::string_view::npos
                         : last      ? part.text.rfind(wanted)
                                     : part.text.find(wanted);
  if (at != std::string_view::npos)
    return Value(part.first + static_cast<std::int64_t>(utf8::length(part.text.substr(0, at))));
  if (name.ends_with("index")) return failure(ErrorClass::kValue, "substring not found");
  return Value(-1);
}

Outcome<Value> starts_or_ends(std::string_view name, std::string_view text, const Bound& bound) {
  GEM8_TRY(const Window part, window(text, bound[1], bound[2]));
  const auto matches = [&](const Value& candidate) -> Outcome<bool> {
    GEM8_TRY(const std::string wanted, need_text(candidate, name));
    return part.valid &&
           (name == "startswith" ? part.text.starts_with(wanted) : part.text.ends_with(wanted));
  };
  const auto* tuple = bound[0]->get<Value::Sequence>();
  if (tuple == nullptr || !tuple->is_tuple) {
    GEM8_TRY(const bool match, matches(*bound[0]));
    return Value(match);
  }
  for (const Value& candidate : *tuple->items) {
    GEM8_TRY(const bool match, matches(candidate));
    if (match) return Value(true);
  }
  return Value(false);
}

Value lines(std::string_view text, bool keep_ends) {
  List parts;
  std::size_t start = 0;
  for (std::size_t i = 0; i < text.size();) {
    auto [point, next] = utf8::decode_at(text, i);
    const bool ends = (point >= 0x0A && point <= 0x0D) || (point >= 0x1C && point <= 0x1E) ||
                      point == 0x85 || point == 0x2028 || point == 0x2029;
    if (ends) {
      if (point == '\r' && next < text.size() && text[next] == '\n') ++next;
      parts.emplace_back(text.substr(start, (keep_ends ? next : i) - start));
      start = next;
    }
    i = next;
  }
  if (start < text.size()) parts.emplace_back(text.substr(start));
  return Value::list(std::move(parts));
}

Outcome<Value> pad(std::string_view name, std::string_view text, const Bound& bound) {
  GEM8_TRY(const std::int64_t width, need_integer(*bound[0], name));
  std::string fill = name == "zfill" ? "0" : " ";
  if (bound.size() > 1 && bound[1]) {
    GEM8_TRY(fill, need_text(*bound[1], name));
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

Outcome<Value> classify(std::string_view name, std::string_view text) {
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

Outcome<Value> partition_text(std::string_view name, std::string_view text, const Bound& bound) {
  GEM8_TRY(const std::string separator, need_text(*bound[0], name));
  if (separator.empty()) return failure(ErrorClass::kValue, "empty separator");
  const bool last = name == "rpartition";
  const std::size_t at = last ? text.rfind(separator) : text.find(separator);
  if (at != std::string_view::npos) {
    return Value::tuple(
        {Value(text.substr(0, at)), Value(separator), Value(text.substr(at + separator.size()))});
  }
  return last ? Value::tuple({Value(""), Value(""), Value(text)})
              : Value::tuple({Value(text), Value(""), Value("")});
}

Outcome<Value> call_text_method(Runtime& runtime, const std::string& text, const std::string& name,
                                Arguments arguments) {
  GEM8_RETURN_IF_ERROR(runtime.charge(1 + text.size() / 16));
  const auto take = [&](Texts names, std::size_t n_required) {
    return bind_arguments(name, std::move(arguments), names, n_required);
  };
  if (name == "format") {
    GEM8_TRY(std::string out, brace_format(runtime, text, arguments));
    return Value(std::move(out));
  }
  if (name == "split" || name == "rsplit") {
    GEM8_TRY(const Bound bound, take({"sep", "maxsplit"}, 0));
    return split(text, bound, name == "rsplit");
  }
  if (name == "strip" || name == "lstrip" || name == "rstrip") {
    GEM8_TRY(const Bound bound, take({"chars"}, 0));
    std::string_view part = text;
    if (!bound[0] || bound[0]->is_none()) {
      if (name != "rstrip") part = python::lstrip(part);
      if (name != "lstrip") part = python::rstrip(part);
    } else {
      GEM8_TRY(const std::string set, need_text(*bound[0], name));
      if (name != "rstrip") part = python::lstrip(part, set);
      if (name != "lstrip") part = python::rstrip(part, set);
    }
    return Value(part);
  }
  if (name == "replace") {
    GEM8_TRY(const Bound bound, take({"old", "new", "count"}, 2));
    return replace(text, bound);
  }
  if (name == "find" || name == "rfind" || name == "index" || name == "rindex" || name == "count") {
    GEM8_TRY(const Bound bound, take({"sub", "start", "end"}, 1));
    return find_text(name, text, bound);
  }
  if (name == "startswith" || name == "endswith") {
    GEM8_TRY(const Bound bound, take({"prefix", "start", "end"}, 1));
    return starts_or_ends(name, text, bound);
  }
  if (name == "splitlines") {
    GEM8_TRY(const Bound bound, take({"keepends"}, 0));
    return lines(text, bound[0] && bound[0]->truthy());
  }
  if (name == "join") {
    GEM8_TRY(const Bound bound, take({"iterable"}, 1));
    GEM8_TRY(const List items, iterate(runtime, *bound[0]));
    std::string out;
    for (std::size_t i = 0; i < items.size(); ++i) {
      if (!items[i].is_string()) {
        return failure(ErrorClass::kType, "sequence item {}: expected str instance, {} found", i,
                       items[i].type_name());
      }
      GEM8_RETURN_IF_ERROR(runtime.charge(1 + (text.size() + items[i].text().size()) / 64));
      if (i > 0) out += text;
      out += items[i].text();
    }
    return Value(std::move(out));
  }
  if (name == "center" || name == "ljust" || name == "rjust") {
    GEM8_TRY(const Bound bound, take({"width", "fillchar"}, 1));
    return pad(name, text, bound);
  }
  if (name == "zfill") {
    GEM8_TRY(const Bound bound, take({"width"}, 1));
    return pad(name, text, bound);
  }
  if (name == "partition" || name == "rpartition") {
    GEM8_TRY(const Bound bound, take({"sep"}, 1));
    return partition_text(name, text, bound);
  }
  if (name == "removeprefix" || name == "removesuffix") {
    GEM8_TRY(const Bound bound, take({"affix"}, 1));
    GEM8_TRY(const std::string affix, need_text(*bound[0], name));
    std::string_view part = text;
    if (name == "removeprefix" && part.starts_with(affix)) part.remove_prefix(affix.size());
    if (name == "removesuffix" && part.ends_with(affix)) part.remove_suffix(affix.size());
    return Value(part);
  }
  if (name == "encode") {
    GEM8_TRY(const Bound bound, take({"encoding", "errors"}, 0));
    if (bound[0] &&
        !(bound[0]->is_string() && (bound[0]->text() == "utf-8" || bound[0]->text() == "utf8"))) {
      return failure(ErrorClass::kRuntime, "only UTF-8 is implemented for encode()");
    }
    return Value(Value::Bytes{std::make_shared<const std::string>(text)});
  }
  GEM8_TRY(const Bound none, take({}, 0));
  if (name == "upper") return Value(python::upper(text));
  if (name == "lower") return Value(python::lower(text));
  if (name == "title") return Value(python::title(text));
  if (name == "capitalize") return Value(python::capitalize(text));
  if (name == "swapcase") return Value(python::swapcase(text));
  if (name == "casefold") return Value(python::casefold(text));
  if (name.starts_with("is") && name != "isidentifier" && name != "isprintable" &&
      name != "istitle")
    return classify(name, text);
  return failure(ErrorClass::kRuntime, "the method str.{} is not implemented", name);
}

Outcome<Value> call_list_method(Runtime& runtime, const Value& self, const std::string& name,
                                Arguments arguments) {
  const List& items = *self.items();
  GEM8_RETURN_IF_ERROR(runtime.charge(items.size() + 1));
  if (name == "copy") return self;
  GEM8_TRY(const Bound bound, bind_arguments(name, std::move(arguments), {"value"}, 1));
  GEM8_RETURN_IF_ERROR(runtime.charge(self.weight()));
  if (name == "count")
    return Value(static_cast<std::int64_t>(
        std::ranges::count_if(items, [&](const Value& item) { return equal(item, *bound[0]); })));
  for (std::size_t i = 0; i < items.size(); ++i) {
    if (equal(items[i], *bound[0])) return Value(i);
  }
  return failure(ErrorClass::kValue, "the value is not in list");
}

Outcome<Value> call_dict_method(const Value& self, const std::string& name, Arguments arguments) {
  const auto& shared = self.get<Value::Mapping>()->dict;
  if (name == "get") {
    GEM8_TRY(const Bound bound, bind_arguments(name, std::move(arguments), {"key", "default"}, 1));
    if (const Value* value = shared->find(*bound[0])) return *value;
    return bound[1] ? *bound[1] : Value(Value::None{});
  }
  GEM8_TRY(const Bound none, bind_arguments(name, std::move(arguments), {}, 0));
  if (name == "items") return Value(Value::DictView{shared, Value::View::kItems});
  if (name == "keys") return Value(Value::DictView{shared, Value::View::kKeys});
  if (name == "values") return Value(Value::DictView{shared, Value::View::kValues});
  if (name == "copy") return self;
  return failure(ErrorClass::kRuntime, "the method dict.{} is not implemented", name);
}

/// The attributes of groups, numbers and ranges that are no methods.
std::optional<Value> plain_attribute(const Value& object, std::string_view name) {
  if (const auto* sequence = object.get<Value::Sequence>(); sequence && sequence->is_group) {
    if (name == "grouper") return sequence->items->front();
    if (name == "list") return sequence->items->back();
  }
  if (const auto* range = object.get<Value::Range>()) {
    if (name == "start") return Value(range->start);
    if (name == "stop") return Value(range->stop);
    if (name == "step") return Value(range->step);
  }
  if (const auto integer = object.integer()) {
    if (name == "real" || name == "numerator") return Value(*integer);
    if (name == "imag") return Value(0);
    if (name == "denominator") return Value(1);
  }
  if (object.get<double>() != nullptr) {
    if (name == "real") return object;
    if (name == "imag") return Value(0.0);
  }
  return std::nullopt;
}

}  // namespace

std::optional<Value> method(const Value& object, std::string_view name) {
  if (auto plain = plain_attribute(object, name)) return plain;
  const auto forbidden = [&] {
    return Value::undefined(
        fmt::format("access to attribute '{}' of '{}' object is unsafe", name, object.type_name()),
        true);
  };
  if (name.size() > 4 && name.starts_with("__") && name.ends_with("__")) return forbidden();
  const auto* sequence = object.get<Value::Sequence>();
  bool known = false;
  if (object.is_string()) {
    known = among(kTextMethods, name);
  } else if (sequence != nullptr) {
    if (!sequence->is_tuple && among(kListChanges, name)) return forbidden();
    known = among(sequence->is_tuple ? kTupleMethods : kListMethods, name);
  } else if (object.mapping() != nullptr) {
    if (among(kDictChanges, name)) return forbidden();
    known = among(kDictMethods, name);
  } else if (object.get<double>() != nullptr) {
    known = among(kFloatMethods, name);
  } else if (object.integer()) {
    known = among(kIntegerMethods, name);
  } else if (object.get<Value::Bytes>() != nullptr) {
    known = among(kBytesMethods, name);
  }
  if (!known) return std::nullopt;
  auto made = std::make_shared<Method>();
  made->self = object;
  made->name = name;
  return Value(Value::ObjectRef{std::move(made)});
}

Outcome<Value> call_method(Runtime& runtime, const Method& method, Arguments arguments) {
  const Value& self = method.self;
  if (self.is_string())
    return call_text_method(runtime, self.text(), method.name, std::move(arguments));
  if (self.items() != nullptr)
    return call_list_method(runtime, self, method.name, std::move(arguments));
  if (self.mapping() != nullptr) return call_dict_method(self, method.name, std::move(arguments));
  if (method.name == "is_integer" && self.get<double>())
    return Value(*self.get<double>() == std::floor(*self.get<double>()));
  if (method.name == "is_integer") return Value(true);
  if (method.name == "bit_length" && self.integer()) {
    Integer value = *self.integer();
    int n = 0;
    for (; value != 0; value /= 2) ++n;
    return Value(n);
  }
  return failure(ErrorClass::kRuntime, "the method {}.{} is not implemented", self.type_name(),
                 method.name);
}

}  // namespace gem8::jinja
