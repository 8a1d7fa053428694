#include "text/jinja/python/operators.h"

#include <algorithm>
#include <cmath>

#include "text/jinja/python/access.h"
#include "text/jinja/python/formatting.h"
#include "text/jinja/python/need.h"
#include "text/jinja/value/order.h"

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
  if (remainder == 0) {
    remainder = std::copysign(0.0, b);
  } else if ((remainder < 0) != (b < 0)) {
    remainder += b;
  }
  if (op == "%") return Value(remainder);
  const double quotient = std::round((a - remainder) / b);
  return Value(quotient == 0 ? std::copysign(0.0, a / b) : quotient);
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

Outcome<Value> plus(const Value& a) {
  GEM8_RETURN_IF_ERROR(need_defined(a));
  if (!a.is_number())
    return failure(ErrorClass::kType, "bad operand type for unary +: '{}'", a.type_name());
  if (const auto x = a.integer()) return Value(*x);
  return a;
}

Outcome<bool> contains(Runtime& runtime, const Value& container, const Value& item) {
  GEM8_RETURN_IF_ERROR(need_allowed(container));
  if (container.is_undefined()) return false;
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
    auto x = item.integer();
    // A float that is a whole number equals it; beyond 64 bits no range goes.
    if (const auto* real = item.get<double>();
        real && *real == std::floor(*real) && std::fabs(*real) < 0x1p63)
      x = static_cast<Integer>(*real);
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

}  // namespace gem8::jinja
