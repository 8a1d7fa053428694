#include "text/jinja/filters/families.h"

#include <algorithm>

#include "text/jinja/python/access.h"
#include "text/jinja/python/need.h"
#include "text/jinja/value/json_text.h"
#include "text/jinja/value/repr.h"

namespace gem8::jinja {
namespace {

Outcome<Value> string(Runtime&, const Bound& a) {
  GEM8_TRY(std::string text, to_str(*a[0]));
  return Value(std::move(text));
}
Outcome<Value> fallback_value(Runtime&, const Bound& a) {
  GEM8_RETURN_IF_ERROR(need_allowed(*a[0]));
  if (a[0]->is_undefined() || (a.flag(2) && !a[0]->truthy())) return a[1] ? *a[1] : Value("");
  return *a[0];
}
/// Attributes only, never items.
Outcome<Value> attr(Runtime&, const Bound& a) {
  GEM8_TRY(const std::string name, to_str(*a[1]));
  GEM8_RETURN_IF_ERROR(need_defined(*a[0]));
  if (auto found = own_attribute(*a[0], name)) return *found;
  return Value::undefined(
      fmt::format("'{} object' has no attribute '{}'", a[0]->type_name(), name));
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

Outcome<Value> tojson(Runtime& runtime, const Bound& a) {
  GEM8_RETURN_IF_ERROR(runtime.charge(a[0]->weight()));
  JsonText style{.ascii = a.flag(1), .sort_keys = a.flag(4)};
  if (a[2] && a[2]->is_string()) {
    style.indent = a[2]->text();
  } else if (a.has(2)) {
    GEM8_TRY(const std::int64_t n, need_integer(*a[2], "tojson"));
    if (n > 100) return failure(ErrorClass::kLimit, "tojson: an indent of {}", n);
    style.indent = std::string(static_cast<std::size_t>(std::max<std::int64_t>(n, 0)), ' ');
  }
  if (style.indent) style.item_separator = ",";
  if (a.has(3)) {
    GEM8_TRY(const List parts, iterate(runtime, *a[3]));
    if (parts.size() != 2 || !parts[0].is_string() || !parts[1].is_string())
      return failure(ErrorClass::kValue, "tojson: separators are two texts");
    style.item_separator = parts[0].text();
    style.key_separator = parts[1].text();
  }
  GEM8_TRY(std::string text, to_json(*a[0], style));
  return Value(std::move(text));
}

Outcome<Value> pprint(Runtime&, const Bound& a) {
  GEM8_TRY(std::string text, to_repr(*a[0]));
  if (text.size() > 79 || a[0]->mapping())
    return failure(ErrorClass::kRuntime, "pprint is implemented for short lists only");
  return Value(std::move(text));
}

const NativeFunction kFilters[] = {
    {"attr", attr, {"obj", "name"}, 2},
    {"d", fallback_value, {"value", "default_value", "boolean"}, 1},
    {"default", fallback_value, {"value", "default_value", "boolean"}, 1},
    {"items", items, {"value"}, 1},
    {"pprint", pprint, {"value"}, 1},
    {"string", string, {"object"}, 1},
    {"tojson", tojson, {"x", "ensure_ascii", "indent", "separators", "sort_keys"}, 1},
};

}  // namespace

std::span<const NativeFunction> value_filters() {
  return kFilters;
}

}  // namespace gem8::jinja
