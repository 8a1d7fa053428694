#include "text/jinja/filters/families.h"

#include "text/jinja/filters/filters.h"
#include "text/jinja/filters/tests.h"
#include "text/jinja/python/access.h"
#include "text/jinja/value/repr.h"

namespace gem8::jinja {
namespace {

/// The arguments after the first n, with `value` in their place on the left.
Arguments after(const Bound& a, std::size_t n, Value value) {
  Arguments each{{std::move(value)}, a.rest.named};
  each.positional.insert(each.positional.end(),
                         a.rest.positional.begin() + static_cast<std::ptrdiff_t>(n),
                         a.rest.positional.end());
  return each;
}

Outcome<Value> map(Runtime& runtime, const Bound& a) {
  GEM8_TRY(const List values, iterate(runtime, *a[0]));
  List out;
  if (a.rest.positional.empty()) {
    GEM8_TRY(const Bound by, bind("map", a.rest, {"attribute", "default"}, 1));
    for (const Value& value : values) {
      GEM8_TRY(Value found, member(runtime, value, *by[0], by[1] ? &*by[1] : nullptr));
      out.push_back(std::move(found));
    }
    return Value::generator(std::move(out));
  }
  GEM8_TRY(const std::string name, to_str(a.rest.positional.front()));
  for (const Value& value : values) {
    GEM8_TRY(Value changed, apply_filter(runtime, name, after(a, 1, value)));
    out.push_back(std::move(changed));
  }
  return Value::generator(std::move(out));
}

/// select, reject, selectattr and rejectattr.
Outcome<Value> choose(Runtime& runtime, const Bound& a) {
  const bool by_attribute = a.function.ends_with("attr"), wanted = a.function.starts_with("select");
  const List& given = a.rest.positional;
  const std::size_t n_before = by_attribute ? 1 : 0;
  if (given.size() < n_before)
    return failure(ErrorClass::kType, "missing parameter for attribute name");
  GEM8_TRY(const List values, iterate(runtime, *a[0]));
  std::string test;
  if (given.size() > n_before) {
    GEM8_TRY(test, to_str(given[n_before]));
    if (!is_test(test)) return failure(ErrorClass::kRuntime, "No test named '{}'.", test);
  }
  List out;
  for (const Value& value : values) {
    GEM8_RETURN_IF_ERROR(runtime.charge(1));
    Value subject = value;
    if (by_attribute) {
      GEM8_TRY(subject, member(runtime, std::move(subject), given.front()));
    }
    bool fits = subject.truthy();
    if (!test.empty()) {
      GEM8_TRY(fits, apply_test(runtime, test, after(a, n_before + 1, std::move(subject))));
    }
    if (fits == wanted) out.push_back(value);
  }
  return Value::generator(std::move(out));
}

const NativeFunction kFilters[] = {
    {"map", map, {"value", "/", "*"}, 1},           {"reject", choose, {"value", "/", "*"}, 1},
    {"rejectattr", choose, {"value", "/", "*"}, 1}, {"select", choose, {"value", "/", "*"}, 1},
    {"selectattr", choose, {"value", "/", "*"}, 1},
};

}  // namespace

std::span<const NativeFunction> each_filters() {
  return kFilters;
}

}  // namespace gem8::jinja
