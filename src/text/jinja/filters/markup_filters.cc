#include "text/jinja/filters/families.h"

#include "text/jinja/value/repr.h"
#include "text/unicode/python_text.h"
#include "text/unicode/utf8.h"

namespace gem8::jinja {
namespace {

/// What is marked safe stays plain text.
Outcome<Value> safe(Runtime&, const Bound& a) {
  GEM8_TRY(std::string text, to_str(*a[0]));
  return Value(std::move(text));
}

Outcome<Value> escape(Runtime&, const Bound& a) {
  GEM8_TRY(const std::string text, to_str(*a[0]));
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&#34;";
        break;
      case '\'':
        out += "&#39;";
        break;
      default:
        out += c;
    }
  }
  return Value(std::move(out));
}

Outcome<Value> striptags(Runtime&, const Bound& a) {
  GEM8_TRY(const std::string text, to_str(*a[0]));
  if (text.find('&') != std::string::npos)
    return failure(ErrorClass::kRuntime, "striptags of text with entities is not implemented");
  std::string bare;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '<') {
      const std::size_t end =
          text.compare(i, 4, "<!--") == 0 ? text.find("-->", i) : text.find('>', i);
      if (end != std::string::npos) {
        i = text[end] == '-' ? end + 2 : end;
        continue;
      }
    }
    bare += text[i];
  }
  std::string out;
  for (std::string_view rest = python::lstrip(bare); !rest.empty();
       rest = python::lstrip(rest)) {  // runs of space become one
    std::size_t end = 0;
    while (end < rest.size() && !python::is_space(utf8::decode_at(rest, end).point))
      end = utf8::decode_at(rest, end).next;
    if (!out.empty()) out += ' ';
    out += rest.substr(0, end);
    rest.remove_prefix(end);
  }
  return Value(std::move(out));
}

Outcome<Value> urlencode(Runtime&, const Bound& a) {
  if (!a[0]->is_string() && !a[0]->is_number())
    return failure(ErrorClass::kRuntime, "urlencode is implemented for text only");
  GEM8_TRY(const std::string text, to_str(*a[0]));
  std::string out;
  for (const char c : text) {
    const bool kept = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                      std::string_view("_.-~/").find(c) != std::string_view::npos;
    out += kept ? std::string(1, c) : fmt::format("%{:02X}", static_cast<unsigned char>(c));
  }
  return Value(std::move(out));
}

const NativeFunction kFilters[] = {
    {"e", escape, {"s"}, 1},
    {"escape", escape, {"s"}, 1},
    {"forceescape", escape, {"value"}, 1},
    {"safe", safe, {"value"}, 1},
    {"striptags", striptags, {"value"}, 1},
    {"urlencode", urlencode, {"value"}, 1},
};

}  // namespace

std::span<const NativeFunction> markup_filters() {
  return kFilters;
}

}  // namespace gem8::jinja
