#include "text/tokenizer/json_scanner.h"

#include <charconv>

#include "text/unicode/utf8.h"

namespace gem8 {

void JsonScanner::skip_space() {
  while (at_ < text_.size() &&
         (text_[at_] == ' ' || text_[at_] == '\n' || text_[at_] == '\r' || text_[at_] == '\t'))
    ++at_;
}

std::unexpected<Error> JsonScanner::unexpected(std::string_view wanted) const {
  if (at_ >= text_.size())
    return fail(Code::kCorrupt, "invalid JSON: ends at byte {}, {} wanted", at_, wanted);
  return fail(Code::kCorrupt, "invalid JSON at byte {}: {} wanted", at_, wanted);
}

Status JsonScanner::take(char c, std::string_view what) {
  skip_space();
  if (at_ >= text_.size() || text_[at_] != c) return unexpected(what);
  ++at_;
  return {};
}

Status JsonScanner::begin_object() {
  return take('{', "an object");
}
Status JsonScanner::begin_array() {
  return take('[', "an array");
}

Result<bool> JsonScanner::next_item(bool& first) {
  skip_space();
  if (at_ < text_.size() && text_[at_] == ']') {
    ++at_;
    return false;
  }
  if (!first) GEM8_RETURN_IF_ERROR(take(',', "',' or ']'"));
  first = false;
  return true;
}

Result<bool> JsonScanner::next_member(bool& first, std::string_view& key) {
  skip_space();
  if (at_ < text_.size() && text_[at_] == '}') {
    ++at_;
    return false;
  }
  if (!first) GEM8_RETURN_IF_ERROR(take(',', "',' or '}'"));
  first = false;
  GEM8_TRY(key, string());
  GEM8_RETURN_IF_ERROR(take(':', "':'"));
  return true;
}

bool JsonScanner::at_string() {
  skip_space();
  return at_ < text_.size() && text_[at_] == '"';
}

Result<std::string_view> JsonScanner::string() {
  GEM8_RETURN_IF_ERROR(take('"', "a string"));
  const std::size_t start = at_;
  while (at_ < text_.size() && text_[at_] != '"' && text_[at_] != '\\' &&
         static_cast<unsigned char>(text_[at_]) >= 0x20)
    ++at_;
  if (at_ < text_.size() && text_[at_] == '"') return text_.substr(start, at_++ - start);

  unescaped_.assign(text_.substr(start, at_ - start));
  const auto hex4 = [&](std::size_t at) -> int {
    if (at + 4 > text_.size()) return -1;
    unsigned value = 0;
    const auto [end, error] = std::from_chars(text_.data() + at, text_.data() + at + 4, value, 16);
    return error == std::errc() && end == text_.data() + at + 4 ? static_cast<int>(value) : -1;
  };
  while (at_ < text_.size()) {
    const char c = text_[at_];
    if (c == '"') {
      ++at_;
      return std::string_view(unescaped_);
    }
    if (static_cast<unsigned char>(c) < 0x20) return unexpected("no control character in a string");
    if (c != '\\') {
      unescaped_ += c;
      ++at_;
      continue;
    }
    if (at_ + 1 >= text_.size()) break;
    switch (text_[at_ + 1]) {
      case '"':
        unescaped_ += '"';
        break;
      case '\\':
        unescaped_ += '\\';
        break;
      case '/':
        unescaped_ += '/';
        break;
      case 'b':
        unescaped_ += '\b';
        break;
      case 'f':
        unescaped_ += '\f';
        break;
      case 'n':
        unescaped_ += '\n';
        break;
      case 'r':
        unescaped_ += '\r';
        break;
      case 't':
        unescaped_ += '\t';
        break;
      case 'u': {
        const int high = hex4(at_ + 2);
        if (high < 0) return unexpected("four hexadecimal digits after \\u");
        char32_t point = static_cast<char32_t>(high);
        if (high >= 0xD800 && high < 0xE000) {
          const int low = at_ + 8 <= text_.size() && text_[at_ + 6] == '\\' && text_[at_ + 7] == 'u'
                              ? hex4(at_ + 8)
                              : -1;
          if (high >= 0xDC00 || low < 0xDC00 || low > 0xDFFF)
            return unexpected("a whole surrogate pair");
          point = 0x10000 + ((static_cast<char32_t>(high) - 0xD800) << 10) +
                  (static_cast<char32_t>(low) - 0xDC00);
          at_ += 6;
        }
        utf8::append(unescaped_, point);
        at_ += 4;
        break;
      }
      default:
        return unexpected("a known escape");
    }
    at_ += 2;
  }
  return unexpected("the end of the string");
}

Result<std::int64_t> JsonScanner::integer() {
  skip_space();
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text_.data() + at_, text_.data() + text_.size(), value);
  if (error != std::errc()) return unexpected("an integer");
  at_ = static_cast<std::size_t>(end - text_.data());
  if (at_ < text_.size() && (text_[at_] == '.' || text_[at_] == 'e' || text_[at_] == 'E'))
    return unexpected("an integer");
  return value;
}

Result<std::string_view> JsonScanner::raw_value() {
  skip_space();
  const std::size_t start = at_;
  std::size_t depth = 0;
  while (at_ < text_.size()) {
    const char c = text_[at_];
    if (c == '"') {
      GEM8_TRY([[maybe_unused]] const std::string_view skipped, string());
      if (depth == 0) return text_.substr(start, at_ - start);
      continue;
    }
    if (c == '{' || c == '[') ++depth;
    if (c == '}' || c == ']') {
      if (depth == 0) break;
      ++at_;
      if (--depth == 0) return text_.substr(start, at_ - start);
      continue;
    }
    if (depth == 0 && (c == ',' || c == ' ' || c == '\n' || c == '\r' || c == '\t')) break;
    ++at_;
  }
  if (at_ == start || depth != 0) return unexpected("a value");
  return text_.substr(start, at_ - start);
}

Status JsonScanner::end() {
  skip_space();
  if (at_ != text_.size()) return unexpected("the end of the document");
  return {};
}

}  // namespace gem8
