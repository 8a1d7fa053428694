#include "text/jinja/value/value.h"

#include <algorithm>

#include "text/jinja/value/object.h"
#include "text/jinja/value/order.h"

namespace gem8::jinja {

std::int64_t Value::Range::size() const {
  if (step > 0) return stop > start ? (stop - start - 1) / step + 1 : 0;
  return start > stop ? (start - stop - 1) / -step + 1 : 0;
}

Value Value::undefined(std::string why, bool forbidden) {
  return Undefined{std::make_shared<const std::string>(std::move(why)), forbidden};
}

Value Value::sequence(List items, bool is_tuple) {
  std::uint32_t depth = 0;
  std::uint64_t weight = 1;
  for (const Value& item : items) {
    depth = std::max(depth, item.depth());
    weight += item.weight();
  }
  Value value;
  value.data =
      Sequence{std::make_shared<const List>(std::move(items)), is_tuple, depth + 1, weight, false};
  return value;
}

Value Value::group(Value key, List items) {
  Value value = tuple({std::move(key), list(std::move(items))});
  std::get<Sequence>(value.data).is_group = true;
  return value;
}

Value Value::dict(Dict members) {
  std::uint32_t depth = 0;
  std::uint64_t weight = 1;
  for (const auto& [key, member] : members.members()) {
    depth = std::max({depth, key.depth(), member.depth()});
    weight += key.weight() + member.weight();
  }
  Value value;
  value.data = Mapping{std::make_shared<const Dict>(std::move(members)), depth + 1, weight};
  return value;
}

Value Value::from_json(const Json& json) {
  if (json.is_null()) return None{};
  if (json.is_bool()) return json.as_bool();
  if (json.is_int()) return json.as_int();
  if (json.is_double()) return json.as_double();
  if (json.is_string()) return json.as_string();
  if (json.is_big_integer()) {
    const std::string& digits = json.as_big_integer().digits;
    Integer value = 0;
    const bool negative = digits.front() == '-';
    for (std::size_t i = negative ? 1 : 0; i < digits.size(); ++i) {
      const int digit = digits[i] - '0';
      if (__builtin_mul_overflow(value, static_cast<Integer>(10), &value) ||
          __builtin_add_overflow(value, static_cast<Integer>(negative ? -digit : digit), &value)) {
        return BigNumber{std::make_shared<const std::string>(digits)};
      }
    }
    return value;
  }
  if (json.is_array()) {
    List items;
    items.reserve(json.as_array().size());
    for (const Json& item : json.as_array()) items.push_back(from_json(item));
    return list(std::move(items));
  }
  Dict members;
  for (const JsonMember& member : json.as_object())
    members.set(member.key, from_json(member.value));
  return dict(std::move(members));
}

std::optional<Integer> Value::integer() const {
  if (const auto* value = get<Integer>()) return *value;
  if (const auto* value = get<bool>()) return static_cast<Integer>(*value ? 1 : 0);
  return std::nullopt;
}

std::optional<double> Value::number() const {
  if (const auto* value = get<double>()) return *value;
  if (const auto value = integer()) return static_cast<double>(*value);
  if (const auto* value = get<BigNumber>())
    return Json(Json::BigInteger{*value->digits}).as_double();
  return std::nullopt;
}

std::uint32_t Value::depth() const {
  if (const auto* sequence = get<Sequence>()) return sequence->depth;
  if (const auto* mapping = get<Mapping>()) return mapping->depth;
  if (const auto* generator = get<Generator>()) {
    std::uint32_t depth = 0;
    for (const Value& item : *generator->rest) depth = std::max(depth, item.depth());
    return depth + 1;
  }
  return 0;
}

std::uint64_t Value::weight() const {
  if (const auto* sequence = get<Sequence>()) return sequence->weight;
  if (const auto* mapping = get<Mapping>()) return mapping->weight;
  if (is_string()) return 1 + text().size() / 64;
  if (const auto* view = get<DictView>()) {
    std::uint64_t weight = 1;
    for (const auto& [key, member] : view->dict->members())
      weight += key.weight() + member.weight();
    return weight;
  }
  if (const auto* generator = get<Generator>()) {
    std::uint64_t weight = 1;
    for (const Value& item : *generator->rest) weight += item.weight();
    return weight;
  }
  return 1;
}

Outcome<Value> bounded(Value value) {
  if (value.depth() > kMaxValueDepth)
    return failure(ErrorClass::kLimit, "a value nested more than {} deep", kMaxValueDepth);
  if (value.weight() > kMaxValueWeight)
    return failure(ErrorClass::kLimit, "a value of more than {} parts", kMaxValueWeight);
  return value;
}

bool Value::truthy() const {
  if (is_undefined() || is_none()) return false;
  if (const auto* value = get<bool>()) return *value;
  if (const auto* value = get<Integer>()) return *value != 0;
  if (const auto* value = get<double>()) return *value != 0.0;
  if (is_string()) return !text().empty();
  if (const auto* value = get<Bytes>()) return !value->data->empty();
  if (const List* value = items()) return !value->empty();
  if (const Dict* value = mapping()) return value->size() != 0;
  if (const auto* value = get<Range>()) return value->size() != 0;
  if (const auto* value = get<DictView>()) return value->dict->size() != 0;
  return true;
}

std::string_view Value::type_name() const {
  struct Name {
    std::string_view operator()(const Undefined&) const { return "Undefined"; }
    std::string_view operator()(const None&) const { return "NoneType"; }
    std::string_view operator()(bool) const { return "bool"; }
    std::string_view operator()(Integer) const { return "int"; }
    std::string_view operator()(const BigNumber&) const { return "int"; }
    std::string_view operator()(double) const { return "float"; }
    std::string_view operator()(const String&) const { return "str"; }
    std::string_view operator()(const Bytes&) const { return "bytes"; }
    std::string_view operator()(const Sequence& value) const {
      return value.is_tuple ? "tuple" : "list";
    }
    std::string_view operator()(const Mapping&) const { return "dict"; }
    std::string_view operator()(const Range&) const { return "range"; }
    std::string_view operator()(const DictView& value) const {
      return value.view == View::kKeys     ? "dict_keys"
             : value.view == View::kValues ? "dict_values"
                                           : "dict_items";
    }
    std::string_view operator()(const Namespace&) const { return "Namespace"; }
    std::string_view operator()(const Generator&) const { return "generator"; }
    std::string_view operator()(const ObjectRef& value) const { return value.object->type_name(); }
  };
  return std::visit(Name{}, data);
}

const Value* Dict::find(std::string_view key) const {
  constexpr std::size_t kLinear = 16;
  if (members_.size() > kLinear) {
    const auto place = by_text_.find(std::string(key));
    return place == by_text_.end() ? nullptr : &members_[place->second].second;
  }
  for (const auto& [name, value] : members_) {
    if (name.is_string() && name.text() == key) return &value;
  }
  return nullptr;
}

const Value* Dict::find(const Value& key) const {
  if (key.is_string()) return find(key.text());
  for (const auto& [name, value] : members_) {
    if (!name.is_string() && equal(name, key)) return &value;
  }
  return nullptr;
}

void Dict::set(const Value& key, Value value) {
  if (const Value* known = find(key)) {
    const_cast<Value&>(*known) = std::move(value);
    return;
  }
  if (key.is_string()) by_text_.emplace(key.text(), members_.size());
  members_.emplace_back(key, std::move(value));
}

void Dict::clear() {
  members_.clear();
  by_text_.clear();
}

}  // namespace gem8::jinja
