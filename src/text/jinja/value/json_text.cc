#include "text/jinja/value/json_text.h"

#include <algorithm>
#include <cmath>

#include "text/jinja/value/order.h"
#include "text/jinja/value/repr.h"

namespace gem8::jinja {
namespace {

std::string float_json(double value) {
  if (std::isnan(value)) return "NaN";
  if (std::isinf(value)) return value < 0 ? "-Infinity" : "Infinity";
  return float_text(value);
}

class Writer {
 public:
  explicit Writer(const JsonText& style) : style_(style) {}

  Outcome<void> write(const Value& value, int level) {
    if (value.is_none()) {
      out += "null";
    } else if (const auto* boolean = value.get<bool>()) {
      out += *boolean ? "true" : "false";
    } else if (const auto* integer = value.get<Integer>()) {
      out += integer_text(*integer);
    } else if (const auto* big = value.get<Value::BigNumber>()) {
      out += *big->digits;
    } else if (const auto* number = value.get<double>()) {
      out += float_json(*number);
    } else if (value.is_string()) {
      write_text(value.text());
    } else if (const List* items = value.items()) {
      out += '[';
      bool first = true;
      for (const Value& item : *items) {
        separate(first, level + 1);
        GEM8_RETURN_IF_ERROR(write(item, level + 1));
      }
      if (!first) new_line(level);
      out += ']';
    } else if (const Dict* dict = value.mapping()) {
      return write_members(*dict, level);
    } else {
      return failure(ErrorClass::kType, "Object of type {} is not JSON serializable",
                     value.type_name());
    }
    return {};
  }

  std::string out;

 private:
  void write_text(const std::string& text) {
    const std::size_t start = out.size();
    out += to_text(Json(text), {.ascii = style_.ascii});
    if (!style_.ascii) return;
    for (std::size_t at = out.find('\x7F', start); at != std::string::npos;
         at = out.find('\x7F', at))
      out.replace(at, 1, "\\u007f");
  }
  void new_line(int level) {
    if (!style_.indent) return;
    out += '\n';
    for (int i = 0; i < level; ++i) out += *style_.indent;
  }
  void separate(bool& first, int level) {
    if (!std::exchange(first, false)) out += style_.item_separator;
    new_line(level);
  }

  Outcome<void> write_members(const Dict& dict, int level) {
    std::vector<const std::pair<Value, Value>*> members;
    for (const auto& member : dict.members()) members.push_back(&member);
    if (style_.sort_keys) {
      std::optional<TemplateError> error;
      std::ranges::stable_sort(members, [&](const auto* a, const auto* b) {
        auto smaller = less(a->first, b->first);
        if (!smaller) error = std::move(smaller.error());
        return smaller.value_or(false);
      });
      if (error) return std::unexpected(std::move(*error));
    }
    out += '{';
    bool first = true;
    for (const auto* member : members) {
      separate(first, level + 1);
      GEM8_TRY(const std::string key, key_text(member->first));
      write_text(key);
      out += style_.key_separator;
      GEM8_RETURN_IF_ERROR(write(member->second, level + 1));
    }
    if (!first) new_line(level);
    out += '}';
    return {};
  }

  static Outcome<std::string> key_text(const Value& key) {
    if (key.is_string()) return key.text();
    if (key.is_none()) return std::string("null");
    if (const auto* boolean = key.get<bool>()) return std::string(*boolean ? "true" : "false");
    if (const auto* number = key.get<double>()) return float_json(*number);
    if (const auto integer = key.integer()) return integer_text(*integer);
    return failure(ErrorClass::kType, "keys must be str, int, float, bool or None, not {}",
                   key.type_name());
  }

  const JsonText& style_;
};

}  // namespace

Outcome<std::string> to_json(const Value& value, const JsonText& style) {
  GEM8_RETURN_IF_ERROR(bounded(value));
  Writer writer(style);
  GEM8_RETURN_IF_ERROR(writer.write(value, 0));
  return std::move(writer.out);
}

}  // namespace gem8::jinja
