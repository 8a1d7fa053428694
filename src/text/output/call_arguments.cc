#include "text/output/call_arguments.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <set>
#include <vector>

#include "text/unicode/python_text.h"

namespace gem8 {
namespace {

constexpr int kMaxDepth = 60;

struct Member;

/// A value as the model wrote it; types come later, from the schema.
struct Argument {
  enum class Kind { kText, kBare, kList, kObject } kind = Kind::kBare;
  std::string text;
  std::vector<Member> members;  ///< of a list with empty keys
  bool cut_off = false;         ///< a bare value at the end of a text that was cut off
};
struct Member {
  std::string key;
  Argument value;
};

bool is_space(char c) {
  return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

std::string without_delimiters(std::string_view text) {
  std::string out(text);
  std::erase(out, kDelimiter);
  return out;
}

class Reader {
 public:
  Reader(std::string_view text, std::set<std::string> declared, bool complete)
      : text_(text), declared_(std::move(declared)), complete_(complete) {}

  std::string name() {
    skip_space();
    if (rest().starts_with("call:")) {
      at_ += 5;
    } else if (rest().starts_with(":")) {
      ++at_;
    } else {
      return {};
    }
    skip_space();
    const std::size_t start = at_;
    while (at_ < text_.size() && text_[at_] != '{' && text_[at_] != '(' &&
           text_[at_] != kDelimiter && !is_space(text_[at_]))
      ++at_;
    return std::string(text_.substr(start, at_ - start));
  }

  bool open() {
    skip_space();
    if (at_ >= text_.size() || (text_[at_] != '{' && text_[at_] != '(')) return false;
    closer_ = text_[at_++] == '{' ? '}' : ')';
    return true;
  }

  /// Members up to the closing brace or the end.
  Argument members(int depth, char closer) {
    Argument object{.kind = Argument::Kind::kObject};
    bool first = true;
    while (at_ < text_.size()) {
      skip_space();
      if (at_ >= text_.size()) break;
      const char c = text_[at_];
      if (c == closer) {
        ++at_;
        if (depth == 0) closed_ = true;
        break;
      }
      if (c == ',' || c == ']' || c == '}' || c == ')' ||
          (c == '{' && first && depth == 0)) {  // strays, and doubled braces
        ++at_;
        continue;
      }
      first = false;
      std::string key;
      if (!read_key(key)) continue;
      skip_space();
      if (at_ >= text_.size() && !complete_) break;
      Argument value = read_value(depth, true);
      if (value.cut_off) break;
      const auto known =
          std::ranges::find(object.members, key, [](const auto& member) { return member.key; });
      if (known != object.members.end()) {
        known->value = std::move(value);  // the last one wins
      } else {
        object.members.push_back({std::move(key), std::move(value)});
      }
    }
    return object;
  }

  bool closed() const { return closed_; }
  char closer() const { return closer_; }

 private:
  std::string_view rest() const { return text_.substr(at_); }
  void skip_space() {
    while (at_ < text_.size() && is_space(text_[at_])) ++at_;
  }
  std::size_t after_space(std::size_t at) const {
    while (at < text_.size() && is_space(text_[at])) ++at;
    return at;
  }

  /// The key and its separator. Without a separator: what stands there is skipped and there is no
  /// key.
  bool read_key(std::string& key) {
    const char c = text_[at_];
    if (c == kDelimiter || c == '"' || c == '\'') {
      const std::size_t end = text_.find(c, at_ + 1);
      if (end != std::string_view::npos) {
        const std::size_t separator = after_space(end + 1);
        if (separator < text_.size() && (text_[separator] == ':' || text_[separator] == '=')) {
          key = without_delimiters(text_.substr(at_ + 1, end - at_ - 1));
          at_ = separator + 1;
          return true;
        }
      }
      ++at_;
      return false;
    }
    std::size_t end = at_;
    std::size_t equals = std::string_view::npos;
    while (end < text_.size() && text_[end] != ':' && text_[end] != ',' && text_[end] != '}' &&
           text_[end] != kDelimiter) {
      if (text_[end] == '=' && equals == std::string_view::npos) equals = end;
      ++end;
    }
    if (end >= text_.size() || text_[end] != ':') {
      if (equals == std::string_view::npos) {
        at_ = std::max(end, at_ + 1);
        return false;
      }
      end = equals;
    }
    key = python::strip(text_.substr(at_, end - at_));
    at_ = end + 1;
    return true;
  }

  /// Whether a string may end before `at`: what follows is the end, a closer, or a comma and the
  /// next item.
  bool ends_string(std::size_t at, bool in_object) const {
    at = after_space(at);
    if (at >= text_.size()) return true;
    if (text_[at] == '}' || text_[at] == ']' || text_[at] == closer_) return true;
    if (text_[at] != ',') return false;
    if (!in_object) return true;
    at = after_space(at + 1);
    if (at >= text_.size() || text_[at] == '}' || text_[at] == kDelimiter || text_[at] == '"' ||
        text_[at] == '\'')
      return true;
    for (; at < text_.size(); ++at) {
      const char c = text_[at];
      if (c == ':' || c == '=') return true;
      if (c == ',' || c == '{' || c == '}' || c == '[' || c == ']' || c == kDelimiter) return false;
    }
    return !complete_;
  }

  Argument read_delimited(bool in_object) {
    const std::size_t start = ++at_;
    for (std::size_t end = text_.find(kDelimiter, start); end != std::string_view::npos;
         end = text_.find(kDelimiter, end + 1)) {
      if (!ends_string(end + 1, in_object)) continue;
      Argument value{.kind = Argument::Kind::kText};
      for (const char c : text_.substr(start, end - start))
        value.text += c == kDelimiter ? '"' : c;  // a delimiter inside is a quote
      at_ = end + 1;
      return value;
    }
    std::size_t end = text_.size();
    if (complete_) {
      end = declared_key_after(start);
      if (end == text_.size()) {
        while (end > start && is_space(text_[end - 1])) --end;
        if (end > start && text_[end - 1] == closer_) --end;
      }
    }
    Argument value{.kind = Argument::Kind::kText,
                   .text = without_delimiters(text_.substr(start, end - start))};
    at_ = end;
    return value;
  }

  /// The first ",key:" of a declared key: where a string whose delimiter was forgotten must have
  /// ended.
  std::size_t declared_key_after(std::size_t start) const {
    for (std::size_t comma = text_.find(',', start); comma != std::string_view::npos;
         comma = text_.find(',', comma + 1)) {
      const std::size_t colon = text_.find(':', comma);
      if (colon == std::string_view::npos) break;
      if (declared_.contains(
              std::string(python::strip(text_.substr(comma + 1, colon - comma - 1)))))
        return comma;
    }
    return text_.size();
  }

  /// "text" or 'text', as JSON and Python have it; false when it is not properly closed.
  bool read_quoted(Argument& value, bool in_object) {
    const char quote = text_[at_];
    std::string out;
    for (std::size_t i = at_ + 1; i < text_.size(); ++i) {
      const char c = text_[i];
      if (c == quote && ends_string(i + 1, in_object)) {
        value = {.kind = Argument::Kind::kText, .text = std::move(out)};
        at_ = i + 1;
        return true;
      }
      if (c == kDelimiter) return false;
      if (c == '\\' && i + 1 < text_.size()) {
        const char next = text_[++i];
        const std::size_t known = std::string_view("nrtbf\"'\\/").find(next);
        if (known == std::string_view::npos) out += c;
        out += known < 5 ? "\n\r\t\b\f"[known] : next;
        continue;
      }
      out += c;
    }
    return false;
  }

  Argument read_value(int depth, bool in_object) {
    skip_space();
    if (at_ >= text_.size()) return {.cut_off = !complete_};
    const char c = text_[at_];
    if (c == kDelimiter) return read_delimited(in_object);
    if (depth < kMaxDepth && c == '[') {
      ++at_;
      return list(depth + 1);
    }
    if (depth < kMaxDepth && c == '{') {
      ++at_;
      return members(depth + 1, '}');
    }
    Argument value;
    if ((c == '"' || c == '\'') && read_quoted(value, in_object)) return value;
    const std::size_t start = at_;
    while (at_ < text_.size() && text_[at_] != ',' && text_[at_] != '}' && text_[at_] != ']' &&
           text_[at_] != closer_ && text_[at_] != kDelimiter) {
      ++at_;
    }
    value.text = python::strip(text_.substr(start, at_ - start));
    value.cut_off = !complete_ && at_ >= text_.size();
    if (at_ < text_.size() && text_[at_] == kDelimiter) {  // the opening delimiter was forgotten
      value.kind = Argument::Kind::kText;
      ++at_;
    }
    return value;
  }

  Argument list(int depth) {
    Argument items{.kind = Argument::Kind::kList};
    while (at_ < text_.size()) {
      skip_space();
      if (at_ >= text_.size()) break;
      const char c = text_[at_];
      if (c == ']') {
        ++at_;
        break;
      }
      if (c == '}' || c == ')') break;  // the bracket was forgotten
      if (c == ',') {
        ++at_;
        continue;
      }
      const std::size_t before = at_;
      Argument value = read_value(depth, false);
      if (value.cut_off) break;
      if (at_ == before) ++at_;
      items.members.push_back({"", std::move(value)});
    }
    return items;
  }

  std::string_view text_;
  std::set<std::string> declared_;
  bool complete_;
  bool closed_ = false;
  char closer_ = '}';
  std::size_t at_ = 0;
};

// --- types ---

std::string canonical(std::string type) {
  type = python::lower(type);
  if (type == "str" || type == "text" || type == "varchar" || type == "char" || type == "enum")
    return "string";
  if (type.starts_with("int") || type.starts_with("uint") || type == "long" || type == "short" ||
      type == "unsigned")
    return "integer";
  if (type.starts_with("float") || type == "double") return "number";
  if (type == "bool") return "boolean";
  if (type == "dict") return "object";
  if (type == "arr" || type == "list" || type == "sequence") return "array";
  return type;
}

void collect_types(const Json& schema, std::set<std::string>& types, int depth) {
  if (!schema.is_object() || depth > kMaxDepth) return;
  if (const Json* type = schema.find("type")) {
    if (type->is_string()) types.insert(canonical(type->as_string()));
    if (type->is_array()) {
      for (const Json& one : type->as_array()) {
        if (one.is_string()) types.insert(canonical(one.as_string()));
      }
    }
  }
  if (const Json* values = schema.find("enum"); values != nullptr && values->is_array()) {
    for (const Json& value : values->as_array())
      types.insert(value.is_double() ? "number" : std::string(value.kind_name()));
  }
  for (const char* key : {"anyOf", "oneOf", "allOf"}) {
    const Json* branches = schema.find(key);
    if (branches == nullptr || !branches->is_array()) continue;
    for (const Json& branch : branches->as_array()) collect_types(branch, types, depth + 1);
  }
}

/// `properties` or `items` of the schema or of one of its branches.
const Json* sub_schema(const Json* schema, std::string_view key, int depth = 0) {
  if (schema == nullptr || !schema->is_object() || depth > kMaxDepth) return nullptr;
  if (const Json* found = schema->find(key); found != nullptr && found->is_object()) return found;
  for (const char* union_key : {"anyOf", "oneOf", "allOf"}) {
    const Json* branches = schema->find(union_key);
    if (branches == nullptr || !branches->is_array()) continue;
    for (const Json& branch : branches->as_array()) {
      if (const Json* found = sub_schema(&branch, key, depth + 1)) return found;
    }
  }
  return nullptr;
}

/// Digits of Python's int(text), or nothing.
std::optional<std::string> integer_digits(std::string_view text) {
  std::string sign;
  if (text.starts_with('-')) sign = "-";
  if (text.starts_with('-') || text.starts_with('+')) text.remove_prefix(1);
  if (text.empty() || !std::ranges::all_of(text, [](char c) { return c >= '0' && c <= '9'; }))
    return std::nullopt;
  const std::size_t first = std::min(text.find_first_not_of('0'), text.size() - 1);
  text.remove_prefix(first);
  return (text == "0" ? "" : sign) + std::string(text);
}

std::optional<double> finite_number(std::string_view text) {
  if (text.starts_with('+')) text.remove_prefix(1);
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (text.empty() || error != std::errc() || end != text.data() + text.size() ||
      !std::isfinite(value))
    return std::nullopt;
  return value;
}

bool is_json_number(std::string_view text) {
  if (text.empty() || (text[0] != '-' && (text[0] < '0' || text[0] > '9'))) return false;
  const auto parsed = parse_json(text);
  return parsed && parsed->is_number() && std::isfinite(parsed->as_double());
}

std::string quoted(const std::string& text) {
  return to_text(Json(text));
}

/// A bare value where no schema says anything.
std::string classified(const std::string& text) {
  if (text == "true" || text == "True") return "true";
  if (text == "false" || text == "False") return "false";
  if (text == "null" || text == "None" || text == "none" || text == "nil") return "null";
  if (is_json_number(text)) return text;  // the digits as written
  if (text.ends_with('.') && is_json_number(text + "0")) return text + "0";
  return quoted(text);
}

std::string coerced(const Argument& value, const Json& schema) {
  std::set<std::string> types;
  collect_types(schema, types, 0);
  if (types.empty()) types.insert("string");
  const std::string& text = value.text;
  const bool is_text = value.kind == Argument::Kind::kText;
  if (is_text && types.contains("string")) return quoted(text);
  const std::string folded = python::lower(text);
  if (types.contains("null") && folded == "null") return "null";
  const std::string bare(python::strip(text));
  if (types.contains("integer")) {
    if (const auto digits = integer_digits(bare)) return *digits;
  }
  if (types.contains("number")) {
    if (const auto digits = integer_digits(bare)) return *digits;
    const std::string number = bare.ends_with('.') ? bare + "0" : bare;
    if (const auto real = finite_number(number))
      return *real == std::floor(*real) ? fmt::format("{:.0f}", *real) : to_text(Json(*real));
  }
  if (types.contains("boolean")) {
    if (folded == "true" || folded == "1") return "true";
    if (folded == "false" || folded == "0") return "false";
  }
  const auto parsed = parse_json(text);
  if (parsed && ((types.contains("object") && parsed->is_object()) ||
                 (types.contains("array") && parsed->is_array()))) {
    return to_text(*parsed, {.python_spaces = true});
  }
  if (types.contains("string")) return quoted(text);
  if (parsed && !(parsed->is_number() && !std::isfinite(parsed->as_double())))
    return to_text(*parsed, {.python_spaces = true});
  return quoted(text);
}

void write(const Argument& value, const Json* schema, std::string& out) {
  if (value.kind == Argument::Kind::kList) {
    const Json* items = sub_schema(schema, "items");
    out += '[';
    for (std::size_t i = 0; i < value.members.size(); ++i) {
      if (i > 0) out += ", ";
      write(value.members[i].value, items, out);
    }
    out += ']';
  } else if (value.kind == Argument::Kind::kObject) {
    const Json* properties = sub_schema(schema, "properties");
    out += '{';
    for (std::size_t i = 0; i < value.members.size(); ++i) {
      if (i > 0) out += ", ";
      const auto& [key, member] = value.members[i];
      out += quoted(key) + ": ";
      write(member, properties != nullptr ? properties->find(key) : nullptr, out);
    }
    out += '}';
  } else if (schema != nullptr) {
    out += coerced(value, *schema);
  } else {
    out += value.kind == Argument::Kind::kText ? quoted(value.text) : classified(value.text);
  }
}

const Json* parameters_of(const Json& tools, const std::string& name) {
  if (!tools.is_array()) return nullptr;
  for (const Json& tool : tools.as_array()) {
    const Json* function = tool.find("function");
    if (function == nullptr) function = &tool;
    const Json* declared = function->find("name");
    if (declared != nullptr && declared->is_string() && declared->as_string() == name)
      return function->find("parameters");
  }
  return nullptr;
}

}  // namespace

std::optional<ParsedCall> parse_call(std::string_view text, const Json& tools, bool complete) {
  ParsedCall call;
  {
    Reader head(text, {}, complete);
    call.name = head.name();
  }
  if (call.name.empty()) return std::nullopt;
  const Json* parameters = parameters_of(tools, call.name);
  std::set<std::string> declared;
  if (const Json* properties = sub_schema(parameters, "properties")) {
    for (const JsonMember& member : properties->as_object()) declared.insert(member.key);
  }
  Reader reader(text, std::move(declared), complete);
  reader.name();
  if (!reader.open()) {
    if (!complete) return std::nullopt;  // the name may go on
    call.arguments = "{}";
    return call;
  }
  write(reader.members(0, reader.closer()), parameters, call.arguments);
  call.closed = reader.closed();
  return call;
}

}  // namespace gem8
