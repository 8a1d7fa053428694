#include "text/jinja/filters/tests.h"

#include <algorithm>

#include "text/jinja/filters/filters.h"
#include "text/jinja/python/need.h"
#include "text/jinja/python/operators.h"
#include "text/jinja/value/order.h"
#include "text/jinja/value/repr.h"
#include "text/unicode/python_text.h"
#include "text/unicode/utf8.h"

namespace gem8::jinja {
namespace {

using Test = Outcome<bool> (*)(Runtime& runtime, const Value& value, const Value& other);

/// value % divisor of two numbers.
Outcome<double> remainder(Runtime& runtime, const Value& value, const Value& divisor) {
  for (const Value* operand : {&value, &divisor}) {
    GEM8_RETURN_IF_ERROR(need_defined(*operand));
    if (!operand->is_number())
      return failure(ErrorClass::kType, "a number is needed, not {}", operand->type_name());
  }
  GEM8_TRY(const Value left, binary_operation(runtime, "%", value, divisor));
  return *left.number();
}

/// Whether Python has one object of this value, however it came about.
bool is_unique_object(const Value& value) {
  if (value.is_none() || value.get<bool>()) return true;
  if (const auto x = value.integer()) return *x >= -5 && *x <= 256;
  return value.is_string() && value.text().empty();
}

/// `a is b`. Lists and dicts are the same when they share their memory. Equal numbers and texts may
/// or may not be one object in Python, which depends on how its compiler stored them.
Outcome<bool> is_same(const Value& a, const Value& b) {
  if (a.data.index() != b.data.index()) return false;
  if (const auto* x = a.get<Value::Sequence>(), *y = b.get<Value::Sequence>(); x && y)
    return x->items == y->items ||
           (x->is_tuple && y->is_tuple && x->items->empty() && y->items->empty());
  if (const auto* x = a.get<Value::Mapping>(), *y = b.get<Value::Mapping>(); x && y)
    return x->dict == y->dict;
  if (!equal(a, b)) return false;
  if (is_unique_object(a)) return true;
  if (a.get<Value::Namespace>() || a.get<Value::ObjectRef>() || a.get<Value::Generator>())
    return true;
  return failure(ErrorClass::kType,
                 "whether two equal values of type '{}' are the same object is not defined; "
                 "compare with ==",
                 a.type_name());
}

Outcome<bool> case_test(const Value& value, bool upper) {
  GEM8_TRY(const std::string text, to_str(value));
  bool cased = false;
  for (std::size_t i = 0; i < text.size();) {
    const auto [point, next] = utf8::decode_at(text, i);
    i = next;
    if (!python::is_cased(point)) continue;
    cased = true;
    if (upper ? !python::is_upper(point) : !python::is_lower(point)) return false;
  }
  return cased;
}

template <char op0, char op1>
Outcome<bool> comparison(Runtime& runtime, const Value& a, const Value& b) {
  constexpr char op[] = {op0, op1};
  return compare(runtime, std::string_view(op, op1 == '\0' ? 1 : 2), a, b);
}

struct Entry {
  std::string_view name;
  std::size_t n_arguments;
  Test test;
};

const Entry kTests[] = {
    {"defined", 0,
     [](Runtime&, const Value& v, const Value&) -> Outcome<bool> { return !v.is_undefined(); }},
    {"undefined", 0,
     [](Runtime&, const Value& v, const Value&) -> Outcome<bool> { return v.is_undefined(); }},
    {"none", 0,
     [](Runtime&, const Value& v, const Value&) -> Outcome<bool> { return v.is_none(); }},
    {"string", 0,
     [](Runtime&, const Value& v, const Value&) -> Outcome<bool> { return v.is_string(); }},
    {"mapping", 0,
     [](Runtime&, const Value& v, const Value&) -> Outcome<bool> {
       return v.mapping() != nullptr;
     }},
    {"boolean", 0,
     [](Runtime&, const Value& v, const Value&) -> Outcome<bool> {
       return v.get<bool>() != nullptr;
     }},
    {"true", 0,
     [](Runtime&, const Value& v, const Value&) -> Outcome<bool> {
       return v.get<bool>() && *v.get<bool>();
     }},
    {"false", 0,
     [](Runtime&, const Value& v, const Value&) -> Outcome<bool> {
       return v.get<bool>() && !*v.get<bool>();
     }},
    {"number", 0,
     [](Runtime&, const Value& v, const Value&) -> Outcome<bool> { return v.is_number(); }},
    {"integer", 0,
     [](Runtime&, const Value& v, const Value&) -> Outcome<bool> {
       return v.get<Integer>() || v.get<Value::BigNumber>();
     }},
    {"float", 0,
     [](Runtime&, const Value& v, const Value&) -> Outcome<bool> {
       return v.get<double>() != nullptr;
     }},
    {"sequence", 0,
     [](Runtime&, const Value& v, const Value&) -> Outcome<bool> {
       return v.is_undefined() || v.is_string() || v.items() || v.mapping() ||
              v.get<Value::Range>() || v.get<Value::Bytes>();
     }},
    {"iterable", 0,
     [](Runtime&, const Value& v, const Value&) -> Outcome<bool> {
       return v.is_undefined() || v.is_string() || v.items() || v.mapping() ||
              v.get<Value::Range>() || v.get<Value::DictView>() || v.get<Value::Generator>() ||
              v.get<Value::Bytes>();
     }},
    {"callable", 0,
     [](Runtime&, const Value& v, const Value&) -> Outcome<bool> {
       return v.is_undefined() ||
              (v.get<Value::ObjectRef>() && v.get<Value::ObjectRef>()->object->callable());
     }},
    {"lower", 0, [](Runtime&, const Value& v, const Value&) { return case_test(v, false); }},
    {"upper", 0, [](Runtime&, const Value& v, const Value&) { return case_test(v, true); }},
    {"escaped", 0, [](Runtime&, const Value&, const Value&) -> Outcome<bool> { return false; }},
    {"filter", 0,
     [](Runtime&, const Value& v, const Value&) -> Outcome<bool> {
       return v.is_string() && is_filter(v.text());
     }},
    {"test", 0,
     [](Runtime&, const Value& v, const Value&) -> Outcome<bool> {
       return v.is_string() && is_test(v.text());
     }},
    {"even", 0,
     [](Runtime& runtime, const Value& v, const Value&) -> Outcome<bool> {
       GEM8_TRY(const double left, remainder(runtime, v, 2));
       return left == 0;
     }},
    {"odd", 0,
     [](Runtime& runtime, const Value& v, const Value&) -> Outcome<bool> {
       GEM8_TRY(const double left, remainder(runtime, v, 2));
       return left == 1;
     }},
    {"divisibleby", 1,
     [](Runtime& runtime, const Value& v, const Value& divisor) -> Outcome<bool> {
       GEM8_TRY(const double left, remainder(runtime, v, divisor));
       return left == 0;
     }},
    {"sameas", 1, [](Runtime&, const Value& v, const Value& other) { return is_same(v, other); }},
    {"in", 1,
     [](Runtime& runtime, const Value& v, const Value& other) {
       return contains(runtime, other, v);
     }},
    {"eq", 1, comparison<'=', '='>},
    {"equalto", 1, comparison<'=', '='>},
    {"==", 1, comparison<'=', '='>},
    {"ne", 1, comparison<'!', '='>},
    {"!=", 1, comparison<'!', '='>},
    {"lt", 1, comparison<'<', '\0'>},
    {"lessthan", 1, comparison<'<', '\0'>},
    {"<", 1, comparison<'<', '\0'>},
    {"le", 1, comparison<'<', '='>},
    {"<=", 1, comparison<'<', '='>},
    {"gt", 1, comparison<'>', '\0'>},
    {"greaterthan", 1, comparison<'>', '\0'>},
    {">", 1, comparison<'>', '\0'>},
    {"ge", 1, comparison<'>', '='>},
    {">=", 1, comparison<'>', '='>},
};

}  // namespace

bool is_test(std::string_view name) {
  return std::ranges::any_of(kTests, [&](const Entry& entry) { return entry.name == name; });
}

Outcome<bool> apply_test(Runtime& runtime, std::string_view name, Arguments arguments) {
  GEM8_RETURN_IF_ERROR(runtime.charge(1));
  for (const Entry& entry : kTests) {
    if (entry.name != name) continue;
    if (arguments.positional.size() != entry.n_arguments + 1 || !arguments.named.empty()) {
      return failure(ErrorClass::kType, "the test '{}' takes {} arguments", name,
                     entry.n_arguments);
    }
    return entry.test(runtime, arguments.positional.front(), arguments.positional.back());
  }
  return failure(ErrorClass::kRuntime, "No test named '{}'.", name);
}

}  // namespace gem8::jinja
