#include "text/jinja/python/text_split.h"

#include <algorithm>

#include "text/unicode/python_text.h"
#include "text/unicode/utf8.h"

namespace gem8::jinja {
namespace {

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

}  // namespace

Outcome<Value> split_text(Runtime&, const Bound& a) {
  std::string_view text = a[0]->text();
  const bool from_right = a.function == "rsplit";
  GEM8_TRY(std::int64_t limit, a.integer(2, -1));
  if (!a.has(1)) return Value::list(split_space(text, limit, from_right));
  GEM8_TRY(const std::string separator, a.text(1));
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

Outcome<Value> split_lines(Runtime&, const Bound& a) {
  const std::string_view text = a[0]->text();
  const bool keep_ends = a.flag(1);
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

Outcome<Value> partition_text(Runtime&, const Bound& a) {
  const std::string_view text = a[0]->text();
  GEM8_TRY(const std::string separator, a.text(1));
  if (separator.empty()) return failure(ErrorClass::kValue, "empty separator");
  const bool last = a.function == "rpartition";
  const std::size_t at = last ? text.rfind(separator) : text.find(separator);
  if (at != std::string_view::npos) {
    return Value::tuple(
        {Value(text.substr(0, at)), Value(separator), Value(text.substr(at + separator.size()))});
  }
  return last ? Value::tuple({Value(""), Value(""), Value(text)})
              : Value::tuple({Value(text), Value(""), Value("")});
}

}  // namespace gem8::jinja
