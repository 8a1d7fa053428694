#include "text/jinja/value.h"

#include <utf8proc.h>

#include <algorithm>
#include <charconv>
#include <cmath>

#include "text/unicode/utf8.h"

namespace gem8::jinja {

std::string_view class_name(ErrorClass error) {
  switch (error) {
    case ErrorClass::kSyntax:
      return "syntax";
    case ErrorClass::kUnknownName:
      return "unknown_name";
    case ErrorClass::kUndefined:
      return "undefined";
    case ErrorClass::kRaised:
      return "raised";
    case ErrorClass::kForbidden:
      return "forbidden";
    case ErrorClass::kType:
      return "type";
    case ErrorClass::kValue:
      return "value";
    case ErrorClass::kRuntime:
      return "runtime";
    case ErrorClass::kLimit:
      return "limit";
  }
  return "runtime";
}

Error TemplateError::to_error() const {
  const Code code = error == ErrorClass::kLimit ? Code::kExhausted
                    : error == ErrorClass::kSyntax || error == ErrorClass::kUnknownName
                        ? Code::kUnsupported
                        : Code::kInvalidArgument;
  if (error == ErrorClass::kRaised)
    return {code, message, {}};  // written for whoever sent the request
  if (line == 0) return {code, fmt::format("chat template: {}", message), {}};
  return {code, fmt::format("chat template, line {}: {}", line, message), {}};
}

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

std::string integer_text(Integer value) {
  if (value == 0) return "0";
  std::string digits;
  const bool negative = value < 0;
  while (value != 0) {
    const auto digit = static_cast<int>(value % 10);
    digits += static_cast<char>('0' + (digit < 0 ? -digit : digit));
    value /= 10;
  }
  if (negative) digits += '-';
  std::ranges::reverse(digits);
  return digits;
}

std::string float_text(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value < 0 ? "-inf" : "inf";
  char buffer[40];
  const auto [end, error] =
      std::to_chars(buffer, buffer + sizeof buffer, value, std::chars_format::scientific);
  std::string_view text(buffer, static_cast<std::size_t>(end - buffer));
  std::string out;
  if (text.front() == '-') {
    out = "-";
    text.remove_prefix(1);
  }
  const std::size_t e = text.find('e');
  int exponent = 0;
  const char* digits_of_exponent = text.data() + e + (text[e + 1] == '+' ? 2 : 1);
  std::from_chars(digits_of_exponent, text.data() + text.size(), exponent);
  std::string digits(1, text.front());
  if (e > 2) digits += text.substr(2, e - 2);
  const int n = static_cast<int>(digits.size());
  if (exponent < -4 || exponent >= 16) {
    out += digits[0];
    if (n > 1) out += "." + digits.substr(1);
    return out + fmt::format("e{}{:02}", exponent < 0 ? '-' : '+', std::abs(exponent));
  }
  if (exponent < 0)
    return out + "0." + std::string(static_cast<std::size_t>(-exponent - 1), '0') + digits;
  if (n <= exponent + 1)
    return out + digits + std::string(static_cast<std::size_t>(exponent + 1 - n), '0') + ".0";
  const auto point = static_cast<std::size_t>(exponent + 1);
  return out + digits.substr(0, point) + "." + digits.substr(point);
}

namespace {

constexpr std::size_t kMaxReprBytes = std::size_t{64} << 20;

bool printable(char32_t point) {
  if (point == ' ') return true;
  switch (utf8proc_category(static_cast<utf8proc_int32_t>(point))) {
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
    case UTF8PROC_CATEGORY_ZS:
      return false;
    default:
      return true;
  }
}

void append_quoted(std::string_view text, bool is_bytes, std::string& out) {
  const char quote =
      text.find('\'') != std::string_view::npos && text.find('"') == std::string_view::npos ? '"'
                                                                                            : '\'';
  out += quote;
  for (std::size_t i = 0; i < text.size();) {
    auto [point, next] = utf8::decode_at(text, i);
    if (is_bytes) {
      point = static_cast<unsigned char>(text[i]);
      next = i + 1;
    }
    if (point == static_cast<char32_t>(quote) || point == '\\') {
      out += '\\';
      out += static_cast<char>(point);
    } else if (point == '\n') {
      out += "\\n";
    } else if (point == '\r') {
      out += "\\r";
    } else if (point == '\t') {
      out += "\\t";
    } else if (point < 0x20 || point == 0x7F || (is_bytes && point >= 0x80)) {
      out += fmt::format("\\x{:02x}", static_cast<unsigned>(point));
    } else if (point < 0x7F || printable(point)) {
      out += text.substr(i, next - i);
    } else if (point < 0x100) {
      out += fmt::format("\\x{:02x}", static_cast<unsigned>(point));
    } else if (point < 0x10000) {
      out += fmt::format("\\u{:04x}", static_cast<unsigned>(point));
    } else {
      out += fmt::format("\\U{:08x}", static_cast<unsigned>(point));
    }
    i = next;
  }
  out += quote;
}

void append_repr(const Value& value, std::string& out, int level);

void append_members(const Dict& dict, std::string& out, int level) {
  out += '{';
  bool first = true;
  for (const auto& [key, member] : dict.members()) {
    if (!std::exchange(first, false)) out += ", ";
    append_repr(key, out, level + 1);
    out += ": ";
    append_repr(member, out, level + 1);
  }
  out += '}';
}

void append_list(const List& items, std::string& out, int level) {
  bool first = true;
  for (const Value& item : items) {
    if (!std::exchange(first, false)) out += ", ";
    append_repr(item, out, level + 1);
  }
}

void append_repr(const Value& value, std::string& out, int level) {
  if (level > static_cast<int>(kMaxValueDepth) || out.size() > kMaxReprBytes) {
    out += "...";  // refused by the caller
  } else if (value.is_undefined()) {
    out += "Undefined";
  } else if (value.is_none()) {
    out += "None";
  } else if (const auto* boolean = value.get<bool>()) {
    out += *boolean ? "True" : "False";
  } else if (const auto* integer = value.get<Integer>()) {
    out += integer_text(*integer);
  } else if (const auto* big = value.get<Value::BigNumber>()) {
    out += *big->digits;
  } else if (const auto* number = value.get<double>()) {
    out += float_text(*number);
  } else if (value.is_string()) {
    append_quoted(value.text(), false, out);
  } else if (const auto* bytes = value.get<Value::Bytes>()) {
    out += 'b';
    append_quoted(*bytes->data, true, out);
  } else if (const auto* sequence = value.get<Value::Sequence>()) {
    out += sequence->is_tuple ? '(' : '[';
    append_list(*sequence->items, out, level);
    if (sequence->is_tuple && sequence->items->size() == 1) out += ',';
    out += sequence->is_tuple ? ')' : ']';
  } else if (const Dict* dict = value.mapping()) {
    append_members(*dict, out, level);
  } else if (const auto* range = value.get<Value::Range>()) {
    out += range->step == 1
               ? fmt::format("range({}, {})", range->start, range->stop)
               : fmt::format("range({}, {}, {})", range->start, range->stop, range->step);
  } else if (const auto* view = value.get<Value::DictView>()) {
    out += value.type_name();
    out += "([";
    bool first = true;
    for (const auto& [key, member] : view->dict->members()) {
      if (!std::exchange(first, false)) out += ", ";
      if (view->view == Value::View::kItems) {
        append_repr(Value::tuple({key, member}), out, level + 1);
      } else {
        append_repr(view->view == Value::View::kKeys ? key : member, out, level + 1);
      }
    }
    out += "])";
  } else if (const auto* names = value.get<Value::Namespace>()) {
    out += "<Namespace ";
    append_members(*names->members, out, level);
    out += '>';
  } else {
    out += fmt::format("<{}>", value.type_name());  // refused by the caller
  }
}

/// A part of the value, or itself, that Python prints with its address in memory; null: none.
const Value* without_text(const Value& value) {
  if (value.get<Value::Generator>() || value.get<Value::ObjectRef>()) return &value;
  const auto first_in = [](const List& items) -> const Value* {
    for (const Value& item : items) {
      if (const Value* found = without_text(item)) return found;
    }
    return nullptr;
  };
  if (const List* items = value.items()) return first_in(*items);
  if (const Dict* dict = value.mapping()) {
    for (const auto& [key, member] : dict->members()) {
      if (const Value* found = without_text(member)) return found;
    }
  }
  return nullptr;
}

}  // namespace

Outcome<std::string> to_repr(const Value& value) {
  if (value.weight() > kMaxValueWeight)
    return failure(ErrorClass::kLimit, "a value of more than {} parts is printed", kMaxValueWeight);
  if (const Value* part = without_text(value)) {
    return failure(ErrorClass::kType, "a {} is printed, which has no text (| list shows its items)",
                   part->type_name());
  }
  std::string out;
  append_repr(value, out, 0);
  if (out.size() > kMaxReprBytes)
    return failure(ErrorClass::kLimit, "a value prints as more than {} bytes", kMaxReprBytes);
  return out;
}

Outcome<std::string> to_str(const Value& value) {
  if (value.is_string()) return value.text();
  if (value.is_undefined()) return std::string();
  return to_repr(value);
}

}  // namespace gem8::jinja
