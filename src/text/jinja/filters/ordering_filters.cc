#include "text/jinja/filters/families.h"

#include <algorithm>

#include "text/jinja/python/access.h"
#include "text/jinja/python/need.h"
#include "text/jinja/value/order.h"
#include "text/jinja/value/repr.h"
#include "text/unicode/python_text.h"

namespace gem8::jinja {
namespace {

/// Values with what they are sorted by.
using Keyed = std::vector<std::pair<Value, Value>>;

Value folded(const Value& value, bool case_sensitive) {
  return value.is_string() && !case_sensitive ? Value(python::lower(value.text())) : value;
}

Outcome<void> sort_keyed(Runtime& runtime, Keyed& keyed, bool reverse) {
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

List values_of(Keyed keyed) {
  List out;
  for (auto& pair : keyed) out.push_back(std::move(pair.second));
  return out;
}

/// What sort and groupby order by: an attribute, several in "a,b", or the value.
Outcome<Value> sort_key(Runtime& runtime, const Value& item, const std::optional<Value>& attribute,
                        const Value* fallback, bool case_sensitive) {
  if (!attribute || attribute->is_none()) return folded(item, case_sensitive);
  if (!attribute->is_string() || attribute->text().find(',') == std::string::npos) {
    GEM8_TRY(const Value value, member(runtime, item, *attribute, fallback));
    return folded(value, case_sensitive);
  }
  List keys;
  for (std::string_view rest = attribute->text();;) {
    const std::size_t comma = rest.find(',');
    GEM8_TRY(const Value value, member(runtime, item, Value(rest.substr(0, comma)), fallback));
    keys.push_back(folded(value, case_sensitive));
    if (comma == std::string_view::npos) break;
    rest.remove_prefix(comma + 1);
  }
  return Value::list(std::move(keys));
}

Outcome<Value> sort(Runtime& runtime, const Bound& a) {
  GEM8_TRY(const List values, iterate(runtime, *a[0]));
  Keyed keyed;
  for (const Value& value : values) {
    GEM8_TRY(Value key, sort_key(runtime, value, a[3], nullptr, a.flag(2)));
    keyed.emplace_back(std::move(key), value);
  }
  GEM8_RETURN_IF_ERROR(sort_keyed(runtime, keyed, a.flag(1)));
  return bounded(Value::list(values_of(std::move(keyed))));
}

Outcome<Value> dictsort(Runtime& runtime, const Bound& a) {
  const Dict* dict = a[0]->mapping();
  GEM8_RETURN_IF_ERROR(need_defined(*a[0]));
  if (dict == nullptr)
    return failure(ErrorClass::kUndefined, "'{}' object has no attribute 'items'",
                   a[0]->type_name());
  GEM8_TRY(const std::string by, a.str(2, "key"));
  if (by != "key" && by != "value")
    return failure(ErrorClass::kRuntime, "dictsort: by is key or value");
  Keyed keyed;
  for (const auto& [key, value] : dict->members()) {
    keyed.emplace_back(folded(by == "key" ? key : value, a.flag(1)), Value::tuple({key, value}));
  }
  GEM8_RETURN_IF_ERROR(sort_keyed(runtime, keyed, a.flag(3)));
  return bounded(Value::list(values_of(std::move(keyed))));
}

Outcome<Value> groupby(Runtime& runtime, const Bound& a) {
  GEM8_TRY(const List values, iterate(runtime, *a[0]));
  const Value* fallback = a[2] ? &*a[2] : nullptr;
  Keyed keyed;
  for (const Value& value : values) {
    GEM8_TRY(Value key, sort_key(runtime, value, a[1], fallback, a.flag(3)));
    keyed.emplace_back(std::move(key), value);
  }
  GEM8_RETURN_IF_ERROR(sort_keyed(runtime, keyed, false));
  List out, group;
  for (std::size_t i = 0; i < keyed.size(); ++i) {
    group.push_back(keyed[i].second);
    if (i + 1 < keyed.size() && equal(keyed[i].first, keyed[i + 1].first)) continue;
    GEM8_TRY(Value name, member(runtime, group.front(), *a[1], fallback));
    out.push_back(Value::group(std::move(name), std::exchange(group, {})));
  }
  return bounded(Value::list(std::move(out)));
}

Outcome<Value> unique(Runtime& runtime, const Bound& a) {
  GEM8_TRY(const List values, iterate(runtime, *a[0]));
  List out, seen;
  for (const Value& value : values) {
    Value key = value;
    if (a.has(2)) {
      GEM8_TRY(key, member(runtime, std::move(key), *a[2]));
    }
    key = folded(key, a.flag(1));
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
    GEM8_TRY(Value key, sort_key(runtime, values[i], a[2], nullptr, a.flag(1)));
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

const NativeFunction kFilters[] = {
    {"dictsort", dictsort, {"value", "case_sensitive", "by", "reverse"}, 1},
    {"groupby", groupby, {"value", "attribute", "default", "case_sensitive"}, 2},
    {"max", maximum, {"value", "case_sensitive", "attribute"}, 1},
    {"min", minimum, {"value", "case_sensitive", "attribute"}, 1},
    {"sort", sort, {"value", "reverse", "case_sensitive", "attribute"}, 1},
    {"unique", unique, {"value", "case_sensitive", "attribute"}, 1},
};

}  // namespace

std::span<const NativeFunction> ordering_filters() {
  return kFilters;
}

}  // namespace gem8::jinja
