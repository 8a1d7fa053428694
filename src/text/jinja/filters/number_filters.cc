#include "text/jinja/filters/families.h"

#include <charconv>
#include <cmath>

#include "text/jinja/python/need.h"
#include "text/jinja/python/operators.h"
#include "text/jinja/value/repr.h"
#include "text/unicode/python_text.h"

namespace gem8::jinja {
namespace {

Outcome<Value> absolute(Runtime&, const Bound& a) {
  GEM8_RETURN_IF_ERROR(need_defined(*a[0]));
  if (const auto x = a[0]->integer()) return *x < 0 ? negate(Value(*x)) : Outcome<Value>(Value(*x));
  if (const auto* x = a[0]->get<double>()) return Value(std::abs(*x));
  return failure(ErrorClass::kType, "bad operand type for abs(): '{}'", a[0]->type_name());
}

std::optional<double> parse_float(std::string_view text) {
  text = python::strip(text);
  std::string digits(text);
  std::erase(digits, '_');
  if (digits.starts_with('+')) digits.erase(0, 1);
  double value = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  if (error == std::errc::result_out_of_range) return digits.front() == '-' ? -HUGE_VAL : HUGE_VAL;
  if (digits.empty() || error != std::errc() || end != digits.data() + digits.size())
    return std::nullopt;
  return value;
}

std::optional<Integer> parse_integer(std::string_view text, std::int64_t base) {
  text = python::strip(text);
  const bool negative = text.starts_with('-');
  if (negative || text.starts_with('+')) text.remove_prefix(1);
  if (text.size() > 2 && text[0] == '0') {
    const char kind = static_cast<char>(text[1] | 0x20);
    const int named = kind == 'x' ? 16 : kind == 'o' ? 8 : kind == 'b' ? 2 : 0;
    if (named != 0 && (base == named || base == 0)) {
      text.remove_prefix(2);
      base = named;
    }
  }
  if (base == 0) base = 10;
  if (text.empty()) return std::nullopt;
  Integer value = 0;
  for (const char c : text) {
    const char low = static_cast<char>(c | 0x20);
    const int digit = c >= '0' && c <= '9'       ? c - '0'
                      : low >= 'a' && low <= 'z' ? low - 'a' + 10
                                                 : 99;
    if (digit >= base || __builtin_mul_overflow(value, static_cast<Integer>(base), &value) ||
        __builtin_add_overflow(value, static_cast<Integer>(digit), &value)) {
      return std::nullopt;
    }
  }
  return negative ? -value : value;
}

Outcome<Value> to_integer(Runtime&, const Bound& a) {
  GEM8_TRY(const std::int64_t base, a.integer(2, 10));
  const Value fallback = a[1] ? *a[1] : Value(0);
  std::optional<double> real;
  if (a[0]->is_string()) {
    if (const auto x = parse_integer(a[0]->text(), base)) return Value(*x);
    real = parse_float(a[0]->text());
  } else if (const auto x = a[0]->integer()) {
    return Value(*x);
  } else if (const auto* value = a[0]->get<double>()) {
    real = *value;
  } else if (a[0]->get<Value::BigNumber>()) {
    return *a[0];
  } else {
    GEM8_RETURN_IF_ERROR(need_defined(*a[0]));
  }
  if (!real || !std::isfinite(*real)) return fallback;
  if (std::abs(*real) >= 1e38) return failure(ErrorClass::kLimit, "int: a number beyond 128 bits");
  return Value(static_cast<Integer>(*real));
}

Outcome<Value> to_float(Runtime&, const Bound& a) {
  GEM8_RETURN_IF_ERROR(need_defined(*a[0]));
  const auto real = a[0]->is_string() ? parse_float(a[0]->text()) : a[0]->number();
  if (real) return Value(*real);
  return a[1] ? *a[1] : Value(0.0);
}

Outcome<Value> round(Runtime&, const Bound& a) {
  GEM8_RETURN_IF_ERROR(need_defined(*a[0]));
  GEM8_TRY(const std::int64_t precision, a.integer(1, 0));
  GEM8_TRY(const std::string method, a.str(2, "common"));
  if (method != "common" && method != "ceil" && method != "floor")
    return failure(ErrorClass::kRuntime, "round: method must be common, ceil or floor");
  const auto real = a[0]->number();
  if (!real)
    return failure(ErrorClass::kType, "type {} doesn't define __round__ method", a[0]->type_name());
  if (precision < 0 || precision > 300)
    return failure(ErrorClass::kRuntime, "round: a precision of {} is not implemented", precision);
  if (method == "common") {
    if (a[0]->integer()) return Value(*a[0]->integer());
    if (!std::isfinite(*real)) return Value(*real);
    return Value(*parse_float(fmt::format(
        "{:.{}f}", *real, precision)));  // decimal digits of the exact value, half to even
  }
  const double scale = std::pow(10.0, static_cast<double>(precision));
  const double whole = method == "ceil" ? std::ceil(*real * scale) : std::floor(*real * scale);
  return Value((whole + 0.0) / scale);  // Python goes through an integer, which has no -0
}

const NativeFunction kFilters[] = {
    {"abs", absolute, {"x"}, 1},
    {"float", to_float, {"value", "default"}, 1},
    {"int", to_integer, {"value", "default", "base"}, 1},
    {"round", round, {"value", "precision", "method"}, 1},
};

}  // namespace

std::span<const NativeFunction> number_filters() {
  return kFilters;
}

}  // namespace gem8::jinja
