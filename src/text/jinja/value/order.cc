#include "text/jinja/value/order.h"

#include <algorithm>

namespace gem8::jinja {

bool equal(const Value& a, const Value& b) {
  if (a.is_undefined() || b.is_undefined()) return a.is_undefined() && b.is_undefined();
  if (a.is_none() || b.is_none()) return a.is_none() && b.is_none();
  if (a.is_number() && b.is_number()) {
    const auto x = a.integer(), y = b.integer();
    if (x && y) return *x == *y;
    const auto *p = a.get<Value::BigNumber>(), *q = b.get<Value::BigNumber>();
    if (p && q) return *p->digits == *q->digits;
    if ((p && y) || (q && x)) return false;
    return *a.number() == *b.number();
  }
  if (a.is_string() && b.is_string()) return a.text() == b.text();
  if (const auto* x = a.get<Value::Bytes>(), *y = b.get<Value::Bytes>(); x && y)
    return *x->data == *y->data;
  if (const auto* x = a.get<Value::Sequence>(), *y = b.get<Value::Sequence>(); x && y) {
    return x->is_tuple == y->is_tuple && std::ranges::equal(*x->items, *y->items, equal);
  }
  if (const Dict* x = a.mapping(), *y = b.mapping(); x && y) {
    return x->size() == y->size() && std::ranges::all_of(x->members(), [&](const auto& member) {
             const Value* other = y->find(member.first);
             return other != nullptr && equal(member.second, *other);
           });
  }
  if (const auto* x = a.get<Value::Range>(), *y = b.get<Value::Range>(); x && y) {
    return x->size() == y->size() &&
           (x->size() == 0 || (x->start == y->start && (x->size() == 1 || x->step == y->step)));
  }
  if (const auto* x = a.get<Value::Namespace>(), *y = b.get<Value::Namespace>(); x && y)
    return x->members == y->members;
  if (const auto* x = a.get<Value::ObjectRef>(), *y = b.get<Value::ObjectRef>(); x && y)
    return x->object == y->object;
  if (const auto* x = a.get<Value::Generator>(), *y = b.get<Value::Generator>(); x && y)
    return x->rest == y->rest;
  return false;
}

Outcome<bool> less(const Value& a, const Value& b) {
  for (const Value* value : {&a, &b}) {
    if (const auto* undefined = value->get<Value::Undefined>()) {
      return failure(undefined->forbidden ? ErrorClass::kForbidden : ErrorClass::kUndefined, "{}",
                     undefined->why ? *undefined->why : "value is undefined");
    }
  }
  if (a.is_number() && b.is_number()) {
    const auto x = a.integer(), y = b.integer();
    if (x && y) return *x < *y;
    return *a.number() < *b.number();
  }
  if (a.is_string() && b.is_string()) return a.text() < b.text();  // UTF-8 sorts as code points do
  if (const auto* x = a.get<Value::Sequence>(), *y = b.get<Value::Sequence>();
      x && y && x->is_tuple == y->is_tuple) {
    for (std::size_t i = 0; i < x->items->size() && i < y->items->size(); ++i) {
      if (!equal((*x->items)[i], (*y->items)[i])) return less((*x->items)[i], (*y->items)[i]);
    }
    return x->items->size() < y->items->size();
  }
  return failure(ErrorClass::kType, "'<' not supported between instances of '{}' and '{}'",
                 a.type_name(), b.type_name());
}

}  // namespace gem8::jinja
