#include "text/jinja/python/methods.h"

#include <algorithm>
#include <cmath>

#include "foundation/check.h"
#include "text/jinja/python/native_function.h"
#include "text/jinja/python/text_methods.h"
#include "text/jinja/value/order.h"

namespace gem8::jinja {
namespace {

Outcome<Value> itself(Runtime&, const Bound& a) {
  return *a[0];
}

// --- lists and tuples ---

Outcome<Value> count_item(Runtime& runtime, const Bound& a) {
  GEM8_RETURN_IF_ERROR(runtime.charge(a[0]->weight()));
  return Value(static_cast<std::int64_t>(std::ranges::count_if(
      *a[0]->items(), [&](const Value& item) { return equal(item, *a[1]); })));
}
Outcome<Value> index_of_item(Runtime& runtime, const Bound& a) {
  GEM8_RETURN_IF_ERROR(runtime.charge(a[0]->weight()));
  const List& items = *a[0]->items();
  const auto place =
      std::ranges::find_if(items, [&](const Value& item) { return equal(item, *a[1]); });
  if (place == items.end()) return failure(ErrorClass::kValue, "the value is not in list");
  return Value(place - items.begin());
}

// --- dicts ---

Outcome<Value> get_member(Runtime&, const Bound& a) {
  if (const Value* value = a[0]->mapping()->find(*a[1])) return *value;
  return a[2] ? *a[2] : Value(Value::None{});
}
template <Value::View view>
Outcome<Value> view_of(Runtime&, const Bound& a) {
  return Value(Value::DictView{a[0]->get<Value::Mapping>()->dict, view});
}

// --- numbers ---

Outcome<Value> is_integer(Runtime&, const Bound& a) {
  const auto* real = a[0]->get<double>();
  return Value(real == nullptr || *real == std::floor(*real));
}
Outcome<Value> bit_length(Runtime&, const Bound& a) {
  int n = 0;
  for (Integer value = *a[0]->integer(); value != 0; value /= 2) ++n;
  return Value(n);
}

// A row without a body is refused when called.
const NativeFunction kListMethods[] = {
    {"copy", itself, {"self", "/"}, 1},
    {"count", count_item, {"self", "value", "/"}, 2},
    {"index", index_of_item, {"self", "value", "/"}, 2},
};
const NativeFunction kTupleMethods[] = {
    {"count", count_item, {"self", "value", "/"}, 2},
    {"index", index_of_item, {"self", "value", "/"}, 2},
};
const NativeFunction kDictMethods[] = {
    {"copy", itself, {"self", "/"}, 1},
    {"fromkeys", nullptr, {}, 0},
    {"get", get_member, {"self", "key", "default", "/"}, 2},
    {"items", view_of<Value::View::kItems>, {"self", "/"}, 1},
    {"keys", view_of<Value::View::kKeys>, {"self", "/"}, 1},
    {"values", view_of<Value::View::kValues>, {"self", "/"}, 1},
};
const NativeFunction kIntegerMethods[] = {
    {"bit_length", bit_length, {"self", "/"}, 1},
    {"is_integer", is_integer, {"self", "/"}, 1},
    {"as_integer_ratio", nullptr, {}, 0},
    {"bit_count", nullptr, {}, 0},
    {"conjugate", nullptr, {}, 0},
    {"from_bytes", nullptr, {}, 0},
    {"to_bytes", nullptr, {}, 0},
};
const NativeFunction kFloatMethods[] = {
    {"is_integer", is_integer, {"self", "/"}, 1},
    {"as_integer_ratio", nullptr, {}, 0},
    {"conjugate", nullptr, {}, 0},
    {"fromhex", nullptr, {}, 0},
    {"hex", nullptr, {}, 0},
};
const NativeFunction kBytesMethods[] = {{"decode", nullptr, {}, 0}, {"hex", nullptr, {}, 0}};

std::span<const NativeFunction> methods_of(const Value& object) {
  if (object.is_string()) return text_methods();
  if (const auto* sequence = object.get<Value::Sequence>())
    return sequence->is_tuple ? std::span<const NativeFunction>(kTupleMethods) : kListMethods;
  if (object.mapping() != nullptr) return kDictMethods;
  if (object.get<double>() != nullptr) return kFloatMethods;
  if (object.integer()) return kIntegerMethods;
  if (object.get<Value::Bytes>() != nullptr) return kBytesMethods;
  return {};
}

/// What would change a list or dict: the sandbox is an immutable one.
bool is_change(const Value& object, std::string_view name) {
  using Names = std::initializer_list<std::string_view>;
  const auto among = [&](Names names) { return std::ranges::find(names, name) != names.end(); };
  if (object.mapping() != nullptr)
    return among({"clear", "pop", "popitem", "setdefault", "update"});
  const auto* sequence = object.get<Value::Sequence>();
  return sequence != nullptr && !sequence->is_tuple &&
         among({"append", "clear", "extend", "insert", "pop", "remove", "reverse", "sort"});
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

Outcome<Value> call_on(Runtime& runtime, const NativeFunction& row, const Value& self,
                       Arguments arguments) {
  GEM8_RETURN_IF_ERROR(runtime.charge(self.is_string() ? 1 + self.text().size() / 16
                                      : self.items()   ? 1 + self.items()->size()
                                                       : 1));
  arguments.positional.insert(arguments.positional.begin(), self);
  return call(runtime, row, std::move(arguments));
}

}  // namespace

std::optional<Value> method(const Value& object, std::string_view name) {
  if (auto plain = plain_attribute(object, name)) return plain;
  if (is_change(object, name)) {
    return Value::undefined(
        fmt::format("access to attribute '{}' of '{}' object is unsafe", name, object.type_name()),
        true);
  }
  const NativeFunction* row = find(methods_of(object), name);
  if (row == nullptr) return std::nullopt;
  return Value::object(std::make_shared<Function>(
      "builtin_function_or_method", [row, self = object](Runtime& runtime, Arguments arguments) {
        return call_on(runtime, *row, self, std::move(arguments));
      }));
}

Outcome<Value> call_text_method(Runtime& runtime, std::string_view name, std::string self,
                                List arguments) {
  const NativeFunction* row = find(text_methods(), name);
  GEM8_CHECK(row != nullptr);
  return call_on(runtime, *row, Value(std::move(self)), {std::move(arguments), {}});
}

}  // namespace gem8::jinja
