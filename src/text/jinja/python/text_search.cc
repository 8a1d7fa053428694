#include "text/jinja/python/text_search.h"

#include <algorithm>

#include "text/jinja/python/need.h"
#include "text/unicode/utf8.h"

namespace gem8::jinja {
namespace {

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
/// The part of a[0] from a[2] to a[3].
Outcome<Window> window(const Bound& a) {
  const std::string_view text = a[0]->text();
  if (!a[2] && !a[3]) return Window{text, 0, true};
  const auto n = static_cast<std::int64_t>(utf8::length(text));
  GEM8_TRY(std::int64_t from, a.integer(2, 0));
  GEM8_TRY(std::int64_t to, a.integer(3, n));
  if (from < 0) from = std::max<std::int64_t>(0, from + n);
  if (to < 0) to = std::max<std::int64_t>(0, to + n);
  to = std::min(to, n);
  if (from > to) return Window{{}, from, false};
  const std::size_t begin = offset_of(text, from);
  return Window{text.substr(begin, offset_of(text.substr(begin), to - from)), from, true};
}

}  // namespace

Outcome<Value> find_text(Runtime&, const Bound& a) {
  GEM8_TRY(const std::string wanted, a.text(1));
  GEM8_TRY(const Window part, window(a));
  if (a.function == "count") {
    if (!part.valid) return Value(0);
    if (wanted.empty()) return Value(utf8::length(part.text) + 1);
    std::int64_t n = 0;
    for (std::size_t at = part.text.find(wanted); at != std::string_view::npos;
         at = part.text.find(wanted, at + wanted.size()))
      ++n;
    return Value(n);
  }
  const bool last = a.function[0] == 'r';
  const std::size_t at = !part.valid ? std::string_view::npos
                         : last      ? part.text.rfind(wanted)
                                     : part.text.find(wanted);
  if (at != std::string_view::npos)
    return Value(part.first + static_cast<std::int64_t>(utf8::length(part.text.substr(0, at))));
  if (a.function.ends_with("index")) return failure(ErrorClass::kValue, "substring not found");
  return Value(-1);
}

Outcome<Value> match_end(Runtime&, const Bound& a) {
  GEM8_TRY(const Window part, window(a));
  const auto matches = [&](const Value& candidate) -> Outcome<bool> {
    GEM8_TRY(const std::string wanted, need_text(candidate, a.function));
    return part.valid && (a.function == "startswith" ? part.text.starts_with(wanted)
                                                     : part.text.ends_with(wanted));
  };
  const auto* tuple = a[1]->get<Value::Sequence>();
  if (tuple == nullptr || !tuple->is_tuple) {
    GEM8_TRY(const bool match, matches(*a[1]));
    return Value(match);
  }
  for (const Value& candidate : *tuple->items) {
    GEM8_TRY(const bool match, matches(candidate));
    if (match) return Value(true);
  }
  return Value(false);
}

}  // namespace gem8::jinja
