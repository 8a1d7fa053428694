#include "text/jinja/filters/families.h"

#include <algorithm>

#include "text/jinja/python/access.h"
#include "text/jinja/python/need.h"
#include "text/jinja/python/operators.h"
#include "text/jinja/value/repr.h"

namespace gem8::jinja {
namespace {

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

Outcome<Value> join(Runtime& runtime, const Bound& a) {
  GEM8_TRY(const std::string separator, a.str(1, ""));
  GEM8_TRY(const List items, iterate(runtime, *a[0]));
  std::string out;
  for (std::size_t i = 0; i < items.size(); ++i) {
    Value item = items[i];
    if (a[2]) {
      GEM8_TRY(item, member(runtime, std::move(item), *a[2]));
    }
    GEM8_TRY(const std::string text, to_str(item));
    GEM8_RETURN_IF_ERROR(runtime.charge(1 + (text.size() + separator.size()) / 64));
    if (i > 0) out += separator;
    out += text;
  }
  return Value(std::move(out));
}

Outcome<Value> sum(Runtime& runtime, const Bound& a) {
  GEM8_TRY(const List values, iterate(runtime, *a[0]));
  Value total = a[2] ? *a[2] : Value(0);
  for (Value value : values) {
    if (a.has(1)) {
      GEM8_TRY(value, member(runtime, std::move(value), *a[1]));
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
    while (a.has(2) && part.size() < static_cast<std::size_t>(n)) part.push_back(*a[2]);
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
    if (a.has(2) && i >= extra) part.push_back(*a[2]);
    out.push_back(Value::list(std::move(part)));
  }
  return Value::generator(std::move(out));
}

const NativeFunction kFilters[] = {
    {"batch", batch, {"value", "linecount", "fill_with"}, 2},
    {"count", length, {"obj"}, 1},
    {"first", first, {"seq"}, 1},
    {"join", join, {"value", "d", "attribute"}, 1},
    {"last", last, {"seq"}, 1},
    {"length", length, {"obj"}, 1},
    {"list", list, {"value"}, 1},
    {"random", random, {"seq"}, 1},
    {"reverse", reverse, {"value"}, 1},
    {"slice", slices, {"value", "slices", "fill_with"}, 2},
    {"sum", sum, {"iterable", "attribute", "start"}, 1},
};

}  // namespace

std::span<const NativeFunction> sequence_filters() {
  return kFilters;
}

}  // namespace gem8::jinja
