#include "foundation/json/json.h"

#include <fmt/format.h>

#include <boost/json/basic_parser_impl.hpp>
#include <charconv>
#include <cmath>
#include <unordered_set>

#include "foundation/check.h"

namespace gem8 {
namespace {

namespace bj = boost::json;

/// Receives basic_parser's events and builds the value; refuses duplicate keys.
struct Builder {
  static constexpr std::size_t max_object_size = static_cast<std::size_t>(-1) / 2;
  static constexpr std::size_t max_array_size = max_object_size;
  static constexpr std::size_t max_key_size = max_object_size;
  static constexpr std::size_t max_string_size = max_object_size;

  struct Level {
    bool is_object = false;
    Json::Array items;
    Json::Object members;
    std::unordered_set<std::string> seen;  // filled once an object outgrows the linear search
    std::string key;
  };

  std::vector<Level> levels;
  std::string text;    // of the string, key or number being read
  std::string number;  // its digits
  Json result;
  std::string refusal;
  bool keep_duplicates = false;

  void add(Json value) {
    if (levels.empty()) {
      result = std::move(value);
    } else if (Level& top = levels.back(); top.is_object) {
      top.members.push_back({std::move(top.key), std::move(value)});
    } else {
      top.items.push_back(std::move(value));
    }
  }
  bool duplicate(Level& top, const std::string& key) {
    constexpr std::size_t kLinear = 16;
    if (top.members.size() < kLinear) {
      for (const JsonMember& member : top.members) {
        if (member.key == key) return true;
      }
      return false;
    }
    if (top.seen.empty()) {
      for (const JsonMember& member : top.members) top.seen.insert(member.key);
    }
    return !top.seen.insert(key).second;
  }

  bool on_document_begin(bj::error_code&) { return true; }
  bool on_document_end(bj::error_code&) { return true; }
  bool on_object_begin(bj::error_code&) {
    levels.push_back({.is_object = true});
    return true;
  }
  bool on_object_end(std::size_t, bj::error_code&) {
    Json value(std::move(levels.back().members));
    levels.pop_back();
    add(std::move(value));
    return true;
  }
  bool on_array_begin(bj::error_code&) {
    levels.push_back({});
    return true;
  }
  bool on_array_end(std::size_t, bj::error_code&) {
    Json value(std::move(levels.back().items));
    levels.pop_back();
    add(std::move(value));
    return true;
  }
  bool on_key_part(bj::string_view part, std::size_t, bj::error_code&) {
    text.append(part.data(), part.size());
    return true;
  }
  bool on_key(bj::string_view part, std::size_t, bj::error_code& error) {
    text.append(part.data(), part.size());
    if (!keep_duplicates && duplicate(levels.back(), text)) {
      refusal = fmt::format("the key \"{}\" appears twice in one object", text);
      error = bj::error::syntax;
      return false;
    }
    levels.back().key = std::exchange(text, {});
    return true;
  }
  bool on_string_part(bj::string_view part, std::size_t, bj::error_code&) {
    text.append(part.data(), part.size());
    return true;
  }
  bool on_string(bj::string_view part, std::size_t, bj::error_code&) {
    text.append(part.data(), part.size());
    add(Json(std::exchange(text, {})));
    return true;
  }
  bool on_number_part(bj::string_view part, bj::error_code&) {
    number.append(part.data(), part.size());
    return true;
  }
  bool on_int64(std::int64_t value, bj::string_view, bj::error_code&) {
    number.clear();
    add(Json(value));
    return true;
  }
  bool on_uint64(std::uint64_t, bj::string_view part, bj::error_code&) {
    number.append(part.data(), part.size());
    add(Json(Json::BigInteger{std::exchange(number, {})}));
    return true;
  }
  bool on_double(double, bj::string_view part, bj::error_code&) {
    number.append(part.data(), part.size());
    const std::string digits = std::exchange(number, {});
    if (digits.find_first_of(".eE") == std::string::npos) {
      add(Json(Json::BigInteger{digits}));
      return true;
    }
    double value = 0.0;  // boost's own conversion can be off by one unit in the last place
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
    if (error == std::errc::result_out_of_range) {
      const bool tiny =
          digits.find("e-") != std::string::npos || digits.find("E-") != std::string::npos;
      value = tiny ? 0.0 : HUGE_VAL;
      if (digits.front() == '-') value = -value;
    }
    add(Json(value));
    return true;
  }
  bool on_bool(bool value, bj::error_code&) {
    add(Json(value));
    return true;
  }
  bool on_null(bj::error_code&) {
    add(Json());
    return true;
  }
  bool on_comment_part(bj::string_view, bj::error_code&) { return true; }
  bool on_comment(bj::string_view, bj::error_code&) { return true; }
};

void write_string(const std::string& text, bool ascii, std::string& out) {
  out += '"';
  for (std::size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    switch (byte) {
      case '"':
        out += "\\\"";
        continue;
      case '\\':
        out += "\\\\";
        continue;
      case '\n':
        out += "\\n";
        continue;
      case '\r':
        out += "\\r";
        continue;
      case '\t':
        out += "\\t";
        continue;
      case '\b':
        out += "\\b";
        continue;
      case '\f':
        out += "\\f";
        continue;
      default:
        break;
    }
    if (byte < 0x20) {
      fmt::format_to(std::back_inserter(out), "\\u{:04x}", byte);
    } else if (byte < 0x80 || !ascii) {
      out += static_cast<char>(byte);
    } else {
      const int extra = byte >= 0xf0 ? 3 : byte >= 0xe0 ? 2 : 1;
      std::uint32_t point = byte & (0x3fu >> extra);
      for (int k = 0; k < extra && i + 1 < text.size(); ++k)
        point = point << 6 | (static_cast<unsigned char>(text[++i]) & 0x3fu);
      if (point >= 0x10000) {
        point -= 0x10000;
        fmt::format_to(std::back_inserter(out), "\\u{:04x}\\u{:04x}", 0xd800 + (point >> 10),
                       0xdc00 + (point & 0x3ff));
      } else {
        fmt::format_to(std::back_inserter(out), "\\u{:04x}", point);
      }
    }
  }
  out += '"';
}

void write_double(double value, std::string& out) {
  if (!std::isfinite(value)) {
    out += "null";
    return;
  }
  char buffer[40];
  const auto [end, error] = std::to_chars(buffer, buffer + sizeof buffer, value);
  GEM8_CHECK(error == std::errc());
  const std::string_view digits(buffer, static_cast<std::size_t>(end - buffer));
  out += digits;
  if (digits.find_first_of(".e") == std::string_view::npos) out += ".0";
}

void write(const Json& value, const JsonStyle& style, int depth, std::string& out) {
  const auto new_line = [&](int level) {
    if (style.indent == 0) return;
    out += '\n';
    out.append(static_cast<std::size_t>(style.indent * level), ' ');
  };
  const std::string_view separator = style.indent == 0 && style.python_spaces ? ", " : ",";
  if (value.is_null()) {
    out += "null";
  } else if (value.is_bool()) {
    out += value.as_bool() ? "true" : "false";
  } else if (value.is_int()) {
    out += fmt::format_int(value.as_int()).str();
  } else if (value.is_big_integer()) {
    out += value.as_big_integer().digits;
  } else if (value.is_double()) {
    write_double(value.as_double(), out);
  } else if (value.is_string()) {
    write_string(value.as_string(), style.ascii, out);
  } else if (value.is_array()) {
    out += '[';
    bool first = true;
    for (const Json& item : value.as_array()) {
      if (!std::exchange(first, false)) out += separator;
      new_line(depth + 1);
      write(item, style, depth + 1, out);
    }
    if (!first) new_line(depth);
    out += ']';
  } else {
    out += '{';
    bool first = true;
    for (const JsonMember& member : value.as_object()) {
      if (!std::exchange(first, false)) out += separator;
      new_line(depth + 1);
      write_string(member.key, style.ascii, out);
      out += style.indent != 0 || style.python_spaces ? ": " : ":";
      write(member.value, style, depth + 1, out);
    }
    if (!first) new_line(depth);
    out += '}';
  }
}

}  // namespace

Json::Json(Array value) : value_(std::move(value)) {}
Json::Json(Object value) : value_(std::move(value)) {}

Json Json::array(std::initializer_list<Json> items) {
  return Json(Array(items));
}

Json Json::object(std::initializer_list<std::pair<std::string_view, Json>> members) {
  Object object;
  for (const auto& [key, value] : members) object.push_back({std::string(key), value});
  return Json(std::move(object));
}

std::string_view Json::kind_name() const {
  constexpr std::string_view kNames[] = {"null",    "boolean", "integer", "number",
                                         "integer", "string",  "array",   "object"};
  return kNames[value_.index()];
}

double Json::as_double() const {
  if (is_int()) return static_cast<double>(as_int());
  if (is_double()) return std::get<double>(value_);
  const std::string& digits = as_big_integer().digits;
  double value = 0.0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  if (error == std::errc::result_out_of_range) return digits.front() == '-' ? -HUGE_VAL : HUGE_VAL;
  return value;
}

const Json* Json::find(std::string_view key) const {
  if (!is_object()) return nullptr;
  for (const JsonMember& member : as_object()) {
    if (member.key == key) return &member.value;
  }
  return nullptr;
}

Json* Json::find(std::string_view key) {
  return const_cast<Json*>(std::as_const(*this).find(key));
}

void Json::set(std::string_view key, Json value) {
  if (is_null()) value_ = Object{};
  if (Json* old = find(key)) {
    *old = std::move(value);
  } else {
    as_object().push_back({std::string(key), std::move(value)});
  }
}

void Json::push_back(Json value) {
  if (is_null()) value_ = Array{};
  as_array().push_back(std::move(value));
}

bool operator==(const JsonMember& a, const JsonMember& b) {
  return a.key == b.key && a.value == b.value;
}

bool operator==(const Json& a, const Json& b) {
  if (a.value_.index() != b.value_.index()) return false;
  if (a.is_big_integer()) return a.as_big_integer().digits == b.as_big_integer().digits;
  if (a.is_null()) return true;
  if (a.is_bool()) return a.as_bool() == b.as_bool();
  if (a.is_int()) return a.as_int() == b.as_int();
  if (a.is_double()) return a.as_double() == b.as_double();
  if (a.is_string()) return a.as_string() == b.as_string();
  if (a.is_array()) return a.as_array() == b.as_array();
  return a.as_object() == b.as_object();
}

Result<Json> parse_json(std::string_view text, const JsonLimits& limits) {
  if (text.size() > limits.max_bytes) {
    return fail(Code::kExhausted, "JSON text of {} bytes, at most {} are read", text.size(),
                limits.max_bytes);
  }
  bj::parse_options options;
  options.max_depth = limits.max_depth;
  bj::basic_parser<Builder> parser(options);
  parser.handler().keep_duplicates = limits.keep_duplicate_keys;
  bj::error_code error;
  const std::size_t used = parser.write_some(false, text.data(), text.size(), error);
  if (!error && used < text.size()) {
    const std::size_t rest = text.find_first_not_of(" \t\r\n", used);
    if (rest != std::string_view::npos)
      return fail(Code::kCorrupt, "invalid JSON at byte {}: text after the value", rest);
  }
  if (error) {
    const Builder& builder = parser.handler();
    return fail(Code::kCorrupt, "invalid JSON at byte {}: {}", used,
                builder.refusal.empty() ? error.message() : builder.refusal);
  }
  return std::move(parser.handler().result);
}

std::string to_text(const Json& value, const JsonStyle& style) {
  std::string out;
  write(value, style, 0, out);
  return out;
}

}  // namespace gem8
