// Operators, subscripts and iteration with Python's meaning.
#include <algorithm>
#include <cmath>

#include "text/jinja/runtime.h"
#include "text/unicode/utf8.h"

namespace gem8::jinja {
namespace {

constexpr std::size_t kMaxText = std::size_t{32} << 20;

std::unexpected<TemplateError> unsupported_operands(std::string_view op, const Value& a,
                                                    const Value& b) {
  return failure(ErrorClass::kType, "unsupported operand type(s) for {}: '{}' and '{}'", op,
                 a.type_name(), b.type_name());
}

std::unexpected<TemplateError> too_large() {
  return failure(ErrorClass::kLimit, "a number beyond 128 bits");
}

Integer floor_divide(Integer a, Integer b) {
  const Integer quotient = a / b;
  return (a % b != 0 && (a < 0) != (b < 0)) ? quotient - 1 : quotient;
}

Outcome<Value> integer_operation(std::string_view op, Integer a, Integer b) {
  Integer out = 0;
  if (op == "+")
    return __builtin_add_overflow(a, b, &out) ? Outcome<Value>(too_large()) : Value(out);
  if (op == "-")
    return __builtin_sub_overflow(a, b, &out) ? Outcome<Value>(too_large()) : Value(out);
  if (op == "*")
    return __builtin_mul_overflow(a, b, &out) ? Outcome<Value>(too_large()) : Value(out);
  if (op == "**") {
    if (b < 0) {
      if (a == 0) return failure(ErrorClass::kValue, "0.0 cannot be raised to a negative power");
      return Value(std::pow(static_cast<double>(a), static_cast<double>(b)));
    }
    out = 1;
    if (a == 0 || a == 1) return Value(b == 0 ? static_cast<Integer>(1) : a);
    if (a == -1) return Value(static_cast<Integer>(b % 2 == 0 ? 1 : -1));
    for (Integer i = 0; i < b; ++i) {
      if (__builtin_mul_overflow(out, a, &out)) return too_large();
    }
    return Value(out);
  }
  if (b == 0) return failure(ErrorClass::kValue, "division by zero");
  if (op == "/") return Value(static_cast<double>(a) / static_cast<double>(b));
  if (b == -1)
    return op == "//" ? integer_operation("-", 0, a)
                      : Outcome<Value>(Value(static_cast<Integer>(0)));
  if (op == "//") return Value(floor_divide(a, b));
  return Value(a - floor_divide(a, b) * b);
}

Outcome<Value> float_operation(std::string_view op, double a, double b) {
  if (op == "+") return Value(a + b);
  if (op == "-") return Value(a - b);
  if (op == "*") return Value(a * b);
  if (op == "**") {
    if (a == 0 && b < 0)
      return failure(ErrorClass::kValue, "0.0 cannot be raised to a negative power");
    if (a < 0 && b != std::floor(b))
      return failure(ErrorClass::kValue, "a negative number to a fractional power");
    return Value(std::pow(a, b));
  }
  if (b == 0) return failure(ErrorClass::kValue, "float division by zero");
  if (op == "/") return Value(a / b);
  double remainder = std::fmod(a, b);
  if (remainder != 0 && (remainder < 0) != (b < 0)) remainder += b;
  if (op == "//") return Value(std::round((a - remainder) / b));
  return Value(remainder);
}

Outcome<Value> repeat(Runtime& runtime, const Value& a, Integer times) {
  const std::size_t n =
      times < 0
          ? 0
          : static_cast<std::size_t>(std::min<Integer>(times, static_cast<Integer>(kMaxText) + 1));
  if (a.is_string()) {
    if (n * std::max<std::size_t>(a.text().size(), 1) > kMaxText)
      return failure(ErrorClass::kLimit, "a text of more than {} bytes", kMaxText);
    GEM8_RETURN_IF_ERROR(runtime.charge(n * a.text().size() / 64));
    std::string out;
    for (std::size_t i = 0; i < n && !a.text().empty(); ++i) out += a.text();
    return Value(std::move(out));
  }
  List out;
  const List& items = *a.items();
  for (std::size_t i = 0; i < n && !items.empty(); ++i) {
    GEM8_RETURN_IF_ERROR(runtime.charge(items.size() + 1));
    if (out.size() > kMaxValueWeight)
      return failure(ErrorClass::kLimit, "a list of more than {} items", kMaxValueWeight);
    out.insert(out.end(), items.begin(), items.end());
  }
  return bounded(a.get<Value::Sequence>()->is_tuple ? Value::tuple(std::move(out))
                                                    : Value::list(std::move(out)));
}

}  // namespace

Outcome<void> need_defined(const Value& value) {
  const auto* undefined = value.get<Value::Undefined>();
  if (undefined == nullptr) return {};
  return failure(undefined->forbidden ? ErrorClass::kForbidden : ErrorClass::kUndefined, "{}",
                 undefined->why ? *undefined->why : "the value is undefined");
}

Outcome<std::int64_t> need_integer(const Value& value, std::string_view what) {
  GEM8_RETURN_IF_ERROR(need_defined(value));
  const auto integer = value.integer();
  if (!integer)
    return failure(ErrorClass::kType, "{}: '{}' object cannot be interpreted as an integer", what,
                   value.type_name());
  if (*integer > INT64_MAX || *integer < INT64_MIN)
    return failure(ErrorClass::kLimit, "{}: the number is too large", what);
  return static_cast<std::int64_t>(*integer);
}

Outcome<std::string> need_text(const Value& value, std::string_view what) {
  GEM8_RETURN_IF_ERROR(need_defined(value));
  if (!value.is_string())
    return failure(ErrorClass::kType, "{}: expected str, found {}", what, value.type_name());
  return value.text();
}

Outcome<void> need_hashable(const Value& value) {
  const auto* sequence = value.get<Value::Sequence>();
  if (value.mapping() != nullptr || (sequence != nullptr && !sequence->is_tuple))
    return failure(ErrorClass::kType, "unhashable type: '{}'", value.type_name());
  if (sequence != nullptr) {
    for (const Value& item : *sequence->items) GEM8_RETURN_IF_ERROR(need_hashable(item));
  }
  return {};
}

Outcome<Value> binary_operation(Runtime& runtime, std::string_view op, const Value& a,
                                const Value& b) {
  if (op == "%" && a.is_string()) {
    GEM8_TRY(std::string text, percent_format(runtime, a.text(), b));
    return Value(std::move(text));
  }
  GEM8_RETURN_IF_ERROR(need_defined(a));
  GEM8_RETURN_IF_ERROR(need_defined(b));
  if (a.get<Value::BigNumber>() || b.get<Value::BigNumber>()) return too_large();
  const auto x = a.integer(), y = b.integer();
  if (x && y) return integer_operation(op, *x, *y);
  if (a.is_number() && b.is_number()) return float_operation(op, *a.number(), *b.number());
  if (op == "+") {
    if (a.is_string() && b.is_string()) {
      const std::size_t n_bytes = a.text().size() + b.text().size();
      if (n_bytes > kMaxText)
        return failure(ErrorClass::kLimit, "a text of more than {} bytes", kMaxText);
      GEM8_RETURN_IF_ERROR(runtime.charge(n_bytes / 64));
      return Value(a.text() + b.text());
    }
    if (a.is_string())
      return failure(ErrorClass::kType, "can only concatenate str (not \"{}\") to str",
                     b.type_name());
    const auto *p = a.get<Value::Sequence>(), *q = b.get<Value::Sequence>();
    if (p && q && p->is_tuple == q->is_tuple) {
      GEM8_RETURN_IF_ERROR(runtime.charge(p->items->size() + q->items->size()));
      List items = *p->items;
      items.insert(items.end(), q->items->begin(), q->items->end());
      return bounded(p->is_tuple ? Value::tuple(std::move(items)) : Value::list(std::move(items)));
    }
  }
  if (op == "*") {
    if ((a.is_string() || a.items()) && y) return repeat(runtime, a, *y);
    if ((b.is_string() || b.items()) && x) return repeat(runtime, b, *x);
  }
  return unsupported_operands(op, a, b);
}

Outcome<Value> negate(const Value& a) {
  GEM8_RETURN_IF_ERROR(need_defined(a));
  if (const auto x = a.integer()) return integer_operation("-", 0, *x);
  if (const auto* x = a.get<double>()) return Value(-*x);
  if (a.get<Value::BigNumber>()) return too_large();
  return failure(ErrorClass::kType, "bad operand type for unary -: '{}'", a.type_name());
}

Outcome<bool> contains(Runtime& runtime, const Value& container, const Value& item) {
  if (const auto* undefined = container.get<Value::Undefined>()) {
    if (undefined->forbidden) GEM8_RETURN_IF_ERROR(need_defined(container));
    return false;
  }
  if (container.is_string()) {
    if (!item.is_string()) {
      GEM8_RETURN_IF_ERROR(need_defined(item));
      return failure(ErrorClass::kType, "'in <string>' requires string as left operand, not {}",
                     item.type_name());
    }
    GEM8_RETURN_IF_ERROR(runtime.charge(container.text().size() / 64));
    return container.text().find(item.text()) != std::string::npos;
  }
  if (const Dict* dict = container.mapping()) {
    GEM8_RETURN_IF_ERROR(need_hashable(item));
    return dict->find(item) != nullptr;
  }
  if (const auto* range = container.get<Value::Range>()) {
    const auto x = item.integer();
    if (!x) return false;
    const Integer distance = *x - range->start;
    return range->size() > 0 && distance % range->step == 0 && distance / range->step >= 0 &&
           distance / range->step < range->size();
  }
  if (container.get<Value::ObjectRef>() || container.is_none() || container.is_number() ||
      container.get<Value::Namespace>()) {
    return failure(ErrorClass::kType, "argument of type '{}' is not iterable",
                   container.type_name());
  }
  GEM8_TRY(const List items, iterate(runtime, container));
  for (const Value& candidate : items) {
    GEM8_RETURN_IF_ERROR(runtime.charge(1));
    if (equal(candidate, item)) return true;
  }
  return false;
}

Outcome<bool> compare(Runtime& runtime, std::string_view op, const Value& a, const Value& b) {
  if (op == "==" || op == "!=") {
    GEM8_RETURN_IF_ERROR(runtime.charge(std::min(a.weight(), b.weight())));
    return equal(a, b) == (op == "==");
  }
  if (op == "in") return contains(runtime, b, a);
  if (op == "not in") {
    GEM8_TRY(const bool found, contains(runtime, b, a));
    return !found;
  }
  for (const Value* value : {&a, &b}) {
    if (value->get<double>() && std::isnan(*value->get<double>())) return false;
  }
  if (op == "<") return less(a, b);
  if (op == ">") return less(b, a);
  GEM8_TRY(const bool smaller, op == "<=" ? less(b, a) : less(a, b));
  return !smaller;
}

Outcome<List> iterate(Runtime& runtime, const Value& value) {
  if (const auto* undefined = value.get<Value::Undefined>()) {
    if (undefined->forbidden) GEM8_RETURN_IF_ERROR(need_defined(value));
    return List{};
  }
  if (const List* items = value.items()) {
    GEM8_RETURN_IF_ERROR(runtime.charge(items->size()));
    return *items;
  }
  List out;
  if (value.is_string()) {
    const std::string& text = value.text();
    GEM8_RETURN_IF_ERROR(runtime.charge(text.size()));
    for (std::size_t i = 0; i < text.size();) {
      const std::size_t next = utf8::decode_at(text, i).next;
      out.emplace_back(text.substr(i, next - i));
      i = next;
    }
    return out;
  }
  const auto* view = value.get<Value::DictView>();
  if (const Dict* dict = value.mapping()   ? value.mapping()
                         : view != nullptr ? view->dict.get()
                                           : nullptr) {
    GEM8_RETURN_IF_ERROR(runtime.charge(dict->size()));
    for (const auto& [key, member] : dict->members()) {
      if (view == nullptr || view->view == Value::View::kKeys) {
        out.push_back(key);
      } else {
        out.push_back(view->view == Value::View::kValues ? member : Value::tuple({key, member}));
      }
    }
    return out;
  }
  if (const auto* range = value.get<Value::Range>()) {
    GEM8_RETURN_IF_ERROR(runtime.charge(static_cast<std::uint64_t>(range->size())));
    for (std::int64_t i = 0; i < range->size(); ++i)
      out.emplace_back(range->start + i * range->step);
    return out;
  }
  if (const auto* generator = value.get<Value::Generator>()) {
    out.swap(*generator->rest);
    return out;
  }
  if (const auto* bytes = value.get<Value::Bytes>()) {
    for (const char c : *bytes->data)
      out.emplace_back(static_cast<int>(static_cast<unsigned char>(c)));
    return out;
  }
  return failure(ErrorClass::kType, "'{}' object is not iterable", value.type_name());
}

Outcome<std::int64_t> length_of(const Value& value) {
  if (const auto* undefined = value.get<Value::Undefined>()) {
    if (undefined->forbidden) GEM8_RETURN_IF_ERROR(need_defined(value));
    return 0;
  }
  if (value.is_string()) return static_cast<std::int64_t>(utf8::length(value.text()));
  if (const List* items = value.items()) return static_cast<std::int64_t>(items->size());
  if (const Dict* dict = value.mapping()) return static_cast<std::int64_t>(dict->size());
  if (const auto* range = value.get<Value::Range>()) return range->size();
  if (const auto* view = value.get<Value::DictView>())
    return static_cast<std::int64_t>(view->dict->size());
  if (const auto* bytes = value.get<Value::Bytes>())
    return static_cast<std::int64_t>(bytes->data->size());
  return failure(ErrorClass::kType, "object of type '{}' has no len()", value.type_name());
}

namespace {

Value missing(const Value& object, std::string_view name) {
  if (object.is_none()) return Value::undefined(fmt::format("'None' has no attribute '{}'", name));
  return Value::undefined(
      fmt::format("'{} object' has no attribute '{}'", object.type_name(), name));
}

/// The n-th item of a sequence; nothing when it is out of range or the value has no items.
Outcome<std::optional<Value>> item_at(const Value& object, Integer index) {
  GEM8_TRY(const std::int64_t n, length_of(object));
  if (index < 0) index += n;
  if (index < 0 || index >= n) return std::nullopt;
  const auto i = static_cast<std::size_t>(index);
  if (const List* items = object.items()) return (*items)[i];
  if (const auto* range = object.get<Value::Range>())
    return Value(range->start + static_cast<std::int64_t>(i) * range->step);
  if (object.is_string()) {
    const std::string& text = object.text();
    std::size_t at = 0;
    for (std::size_t k = 0; k < i; ++k) at = utf8::decode_at(text, at).next;
    return Value(text.substr(at, utf8::decode_at(text, at).next - at));
  }
  return std::nullopt;
}

}  // namespace

Outcome<Value> attribute(const Value& object, std::string_view name) {
  GEM8_RETURN_IF_ERROR(need_defined(object));
  if (const auto* names = object.get<Value::Namespace>()) {
    if (const Value* value = names->members->find(name)) return *value;
  }
  if (auto found = method(object, name)) return *found;
  if (const Dict* dict = object.mapping()) {
    if (const Value* value = dict->find(name)) return *value;
  }
  return missing(object, name);
}

Outcome<Value> subscript(Runtime& runtime, const Value& object, const Value& key) {
  GEM8_RETURN_IF_ERROR(need_defined(object));
  if (const Dict* dict = object.mapping()) {
    if (const Value* value = dict->find(key)) return *value;
  } else if (const auto* names = object.get<Value::Namespace>()) {
    if (const Value* value = names->members->find(key)) return *value;
  } else if (const auto index = key.integer();
             index && (object.items() || object.is_string() || object.get<Value::Range>())) {
    if (object.is_string()) GEM8_RETURN_IF_ERROR(runtime.charge(object.text().size() / 64));
    GEM8_TRY(auto item, item_at(object, *index));
    if (item) return std::move(*item);
    return Value::undefined(
        fmt::format("{} object has no element {}", object.type_name(), integer_text(*index)));
  }
  if (key.is_string()) {
    if (auto found = method(object, key.text())) return *found;
    return missing(object, key.text());
  }
  return Value::undefined(fmt::format("{} object has no such element", object.type_name()));
}

Outcome<Value> slice(Runtime& runtime, const Value& object, const Value* start, const Value* stop,
                     const Value* step) {
  GEM8_RETURN_IF_ERROR(need_defined(object));
  if (!object.items() && !object.is_string() && !object.get<Value::Range>())
    return failure(ErrorClass::kType, "a '{}' object cannot be sliced", object.type_name());
  const auto bound = [](const Value* value, std::int64_t fallback) -> Outcome<std::int64_t> {
    if (value == nullptr || value->is_none()) return fallback;
    GEM8_RETURN_IF_ERROR(need_defined(*value));
    const auto integer = value->integer();
    if (!integer)
      return failure(ErrorClass::kType, "slice indices must be integers or None, not {}",
                     value->type_name());
    return static_cast<std::int64_t>(std::clamp<Integer>(*integer, INT32_MIN, INT32_MAX));
  };
  GEM8_TRY(const std::int64_t stride, bound(step, 1));
  if (stride == 0) return failure(ErrorClass::kValue, "slice step cannot be zero");
  GEM8_TRY(const std::int64_t n, length_of(object));
  GEM8_TRY(std::int64_t from, bound(start, stride > 0 ? 0 : n - 1));
  GEM8_TRY(std::int64_t to, bound(stop, stride > 0 ? n : -n - 1));
  const std::int64_t low = stride > 0 ? 0 : -1, high = stride > 0 ? n : n - 1;
  if (from < 0 && start != nullptr && !start->is_none()) from += n;
  if (to < 0) to += n;
  from = std::clamp(from, low, high);
  to = std::clamp(to, low, high);
  if (const auto* range = object.get<Value::Range>()) {
    std::int64_t scaled = 0;
    if (__builtin_mul_overflow(range->step, stride, &scaled)) return too_large();
    return Value(
        Value::Range{range->start + from * range->step, range->start + to * range->step, scaled});
  }
  GEM8_TRY(const List items, iterate(runtime, object));
  List taken;
  for (std::int64_t i = from; stride > 0 ? i < to : i > to; i += stride)
    taken.push_back(items[static_cast<std::size_t>(i)]);
  if (!object.is_string()) {
    const auto* sequence = object.get<Value::Sequence>();
    return sequence != nullptr && sequence->is_tuple ? Value::tuple(std::move(taken))
                                                     : Value::list(std::move(taken));
  }
  std::string text;
  for (const Value& character : taken) text += character.text();
  return Value(std::move(text));
}

Outcome<std::vector<std::optional<Value>>> bind_arguments(
    std::string_view function, Arguments arguments, std::initializer_list<std::string_view> names,
    std::size_t n_required) {
  std::vector<std::optional<Value>> bound(names.size());
  if (arguments.positional.size() > names.size()) {
    return failure(ErrorClass::kType, "{}() takes {} arguments, {} were given", function,
                   names.size(), arguments.positional.size());
  }
  for (std::size_t i = 0; i < arguments.positional.size(); ++i)
    bound[i] = std::move(arguments.positional[i]);
  for (auto& [name, value] : arguments.named) {
    const auto place = std::ranges::find(names, name);
    if (place == names.end())
      return failure(ErrorClass::kType, "{}() got an unexpected keyword argument '{}'", function,
                     name);
    auto& slot = bound[static_cast<std::size_t>(place - names.begin())];
    if (slot)
      return failure(ErrorClass::kType, "{}() got multiple values for argument '{}'", function,
                     name);
    slot = std::move(value);
  }
  for (std::size_t i = 0; i < n_required; ++i) {
    if (!bound[i])
      return failure(ErrorClass::kType, "{}() missing required argument '{}'", function,
                     names.begin()[i]);
  }
  return bound;
}

}  // namespace gem8::jinja
