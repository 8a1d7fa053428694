#include "text/jinja/python/access.h"

#include <algorithm>
#include <charconv>

#include "text/jinja/python/methods.h"
#include "text/jinja/python/need.h"
#include "text/jinja/value/object.h"
#include "text/jinja/value/repr.h"
#include "text/unicode/utf8.h"

namespace gem8::jinja {
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

Outcome<List> iterate(Runtime& runtime, const Value& value) {
  GEM8_RETURN_IF_ERROR(need_allowed(value));
  if (value.is_undefined()) return List{};
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
  GEM8_RETURN_IF_ERROR(need_allowed(value));
  if (value.is_undefined()) return 0;
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

std::optional<Value> own_attribute(const Value& object, std::string_view name) {
  if (const auto* names = object.get<Value::Namespace>()) {
    if (const Value* value = names->members->find(name)) return *value;
  }
  if (name.size() > 4 && name.starts_with("__") && name.ends_with("__")) {
    return Value::undefined(
        fmt::format("access to attribute '{}' of '{}' object is unsafe", name, object.type_name()),
        true);
  }
  if (const auto* ref = object.get<Value::ObjectRef>()) return ref->object->attribute(name);
  return method(object, name);
}

Outcome<Value> attribute(const Value& object, std::string_view name) {
  GEM8_RETURN_IF_ERROR(need_defined(object));
  if (auto found = own_attribute(object, name)) return *found;
  if (const Dict* dict = object.mapping()) {
    if (const Value* value = dict->find(name)) return *value;
  }
  return missing(object, name);
}

Outcome<Value> subscript(Runtime& runtime, const Value& object, const Value& key) {
  GEM8_RETURN_IF_ERROR(need_defined(object));
  if (const Dict* dict = object.mapping()) {
    if (const Value* value = dict->find(key)) return *value;
  } else if (const auto index = key.integer();
             index && (object.items() || object.is_string() || object.get<Value::Range>())) {
    if (object.is_string()) GEM8_RETURN_IF_ERROR(runtime.charge(object.text().size() / 64));
    GEM8_TRY(auto item, item_at(object, *index));
    if (item) return std::move(*item);
    return Value::undefined(
        fmt::format("{} object has no element {}", object.type_name(), integer_text(*index)));
  }
  if (key.is_string()) {
    if (auto found = own_attribute(object, key.text())) return *found;
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
    if (std::abs(stride) >= INT32_MAX || __builtin_mul_overflow(range->step, stride, &scaled))
      return failure(ErrorClass::kLimit, "a range's step beyond 64 bits");
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

Outcome<Value> member(Runtime& runtime, Value value, const Value& path, const Value* fallback) {
  if (!path.is_string()) {
    GEM8_TRY(value, subscript(runtime, value, path));
  } else {
    std::string_view rest = path.text();
    for (;;) {
      const std::size_t dot = rest.find('.');
      const std::string name(rest.substr(0, dot));
      const bool is_index =
          !name.empty() && std::ranges::all_of(name, [](char c) { return c >= '0' && c <= '9'; });
      std::int64_t index = 0;
      std::from_chars(name.data(), name.data() + name.size(), index);
      GEM8_TRY(value, subscript(runtime, value, is_index ? Value(index) : Value(name)));
      if (value.is_undefined() && fallback != nullptr) return *fallback;
      if (dot == std::string_view::npos) break;
      rest.remove_prefix(dot + 1);
    }
  }
  if (value.is_undefined() && fallback != nullptr) return *fallback;
  return value;
}

}  // namespace gem8::jinja
