#include "text/jinja/syntax/lexer.h"

#include <algorithm>

#include "text/unicode/python_text.h"
#include "text/unicode/utf8.h"

namespace gem8::jinja {
namespace {

constexpr std::size_t kMaxBytes = std::size_t{4} << 20;

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}
bool begins_name(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' ||
         static_cast<unsigned char>(c) >= 0x80;
}
bool is_space(char c) {
  return c == ' ' || (c >= '\t' && c <= '\r');
}

class Lexer {
 public:
  explicit Lexer(std::string source) : source_(std::move(source)) {}

  Outcome<std::vector<Token>> run() {
    while (at_ < source_.size() || !started_) {
      started_ = true;
      if (auto done = next_part(); !done) return std::unexpected(at_line(std::move(done.error())));
    }
    add(TokenKind::kEnd, "");
    return std::move(tokens_);
  }

 private:
  using Step = Outcome<void>;

  TemplateError at_line(TemplateError error) const {
    if (error.line == 0) error.line = line_;
    return error;
  }
  void add(TokenKind kind, std::string text) { tokens_.push_back({kind, std::move(text), line_}); }
  bool follows(std::string_view text, std::size_t from) const {
    return std::string_view(source_).substr(from).starts_with(text);
  }
  void advance(std::size_t to) {
    line_ += static_cast<int>(std::count(source_.begin() + static_cast<std::ptrdiff_t>(at_),
                                         source_.begin() + static_cast<std::ptrdiff_t>(to), '\n'));
    at_ = to;
  }
  std::size_t after_space(std::size_t from) const {
    while (from < source_.size()) {
      const auto [point, next] = utf8::decode_at(source_, from);
      if (!python::is_space(point)) break;
      from = next;
    }
    return from;
  }

  /// Text before a tag, with the white space that the tag's '-' or lstrip_blocks takes.
  void add_data(std::string_view text, char sign, bool is_variable) {
    if (sign == '-') {
      text = python::rstrip(text);
    } else if (sign != '+' && !is_variable) {
      const std::size_t line_break = text.rfind('\n');
      const std::size_t start = line_break == std::string_view::npos ? 0 : line_break + 1;
      if (start > 0 || line_starting_) {
        if (python::strip(text.substr(start)).empty()) text = text.substr(0, start);
      }
    }
    if (!text.empty()) add(TokenKind::kData, std::string(text));
  }

  char sign_at(std::size_t at) const {
    return at < source_.size() && (source_[at] == '-' || source_[at] == '+') ? source_[at] : '\0';
  }

  /// The end of "-%}", "+%}" or "%}" at `at` with the white space that goes with it, or npos.
  /// `close` is "%}" or "#}".
  std::size_t match_end(std::size_t at, std::string_view close) const {
    if (follows(close, at)) {
      at += close.size();
      return at < source_.size() && source_[at] == '\n' ? at + 1 : at;
    }
    if (at < source_.size() && source_[at] == '+' && follows(close, at + 1))
      return at + 1 + close.size();
    if (at < source_.size() && source_[at] == '-' && follows(close, at + 1))
      return after_space(at + 1 + close.size());
    return std::string::npos;
  }

  Step next_part() {
    std::size_t open = at_;
    for (;; ++open) {
      open = source_.find('{', open);
      if (open == std::string::npos) {
        if (at_ < source_.size()) add(TokenKind::kData, source_.substr(at_));
        at_ = source_.size();
        return {};
      }
      if (follows("{{", open) || follows("{%", open) || follows("{#", open)) break;
    }
    const char kind = source_[open + 1];
    const char sign = sign_at(open + 2);
    const std::string before = source_.substr(at_, open - at_);
    const std::size_t inside = open + 2 + (sign != '\0' ? 1 : 0);
    if (kind == '%') {
      if (const std::size_t end = raw_begin(inside); end != std::string::npos) {
        add_data(before, sign, false);
        advance(end);
        line_starting_ = source_[end - 1] == '\n';
        return raw_block();
      }
    }
    add_data(before, sign, kind == '{');
    advance(inside);
    if (kind == '#') return comment();
    add(kind == '{' ? TokenKind::kVariableBegin : TokenKind::kBlockBegin, "");
    return tag(kind == '{');
  }

  /// "raw %}" after "{%": its end, or npos.
  std::size_t raw_begin(std::size_t at) const {
    at = after_space(at);
    if (!follows("raw", at)) return std::string::npos;
    at = after_space(at + 3);
    if (follows("%}", at)) return at + 2;
    if (follows("-%}", at)) return after_space(at + 3);
    return std::string::npos;
  }

  Step raw_block() {
    for (std::size_t open = source_.find("{%", at_); open != std::string::npos;
         open = source_.find("{%", open + 1)) {
      const char sign = sign_at(open + 2);
      std::size_t at = after_space(open + 2 + (sign != '\0' ? 1 : 0));
      if (!follows("endraw", at)) continue;
      at = after_space(at + 6);
      const std::size_t end = match_end(at, "%}");
      if (end == std::string::npos) continue;
      add_data(std::string_view(source_).substr(at_, open - at_), sign, false);
      advance(end);
      line_starting_ = source_[end - 1] == '\n';
      return {};
    }
    return failure(ErrorClass::kSyntax, "Missing end of raw directive");
  }

  Step comment() {
    for (std::size_t at = source_.find("#}", at_); at != std::string::npos;
         at = source_.find("#}", at + 1)) {
      const std::size_t from =
          at > at_ && (source_[at - 1] == '-' || source_[at - 1] == '+') ? at - 1 : at;
      const std::size_t end = match_end(from, "#}");
      advance(end);
      line_starting_ = source_[end - 1] == '\n';
      return {};
    }
    return failure(ErrorClass::kSyntax, "Missing end of comment tag");
  }

  Step tag(bool is_variable) {
    std::string brackets;  // the closers that are due
    while (at_ < source_.size()) {
      if (brackets.empty()) {
        std::size_t end = std::string::npos;
        if (!is_variable) {
          end = match_end(at_, "%}");
        } else if (follows("}}", at_)) {
          end = at_ + 2;
        } else if (follows("-}}", at_)) {
          end = after_space(at_ + 3);
        }
        if (end != std::string::npos) {
          add(is_variable ? TokenKind::kVariableEnd : TokenKind::kBlockEnd, "");
          advance(end);
          line_starting_ = source_[end - 1] == '\n';
          return {};
        }
      }
      const char c = source_[at_];
      if (is_space(c)) {
        advance(at_ + 1);
      } else if (is_digit(c)) {
        number();
      } else if (begins_name(c)) {
        const std::size_t start = at_;
        while (at_ < source_.size() && (begins_name(source_[at_]) || is_digit(source_[at_]))) ++at_;
        add(TokenKind::kName, source_.substr(start, at_ - start));
      } else if (c == '\'' || c == '"') {
        if (auto done = string(); !done) return done;
      } else if (auto done = operation(brackets); !done) {
        return done;
      }
    }
    return {};  // the parser says what was expected
  }

  /// Digits with single '_' between them; npos when none.
  std::size_t digits(std::size_t at) const {
    if (at >= source_.size() || !is_digit(source_[at])) return std::string::npos;
    while (at < source_.size()) {
      if (is_digit(source_[at])) {
        ++at;
      } else if (source_[at] == '_' && at + 1 < source_.size() && is_digit(source_[at + 1])) {
        ++at;
      } else {
        break;
      }
    }
    return at;
  }

  void number() {
    const std::size_t start = at_;
    const auto take = [&](TokenKind kind, std::size_t end) {
      std::string text = source_.substr(start, end - start);
      std::erase(text, '_');
      add(kind, std::move(text));
      at_ = end;
    };
    if (start == 0 || source_[start - 1] != '.') {  // "x.0.1" holds no float
      const std::size_t whole = digits(start);
      std::size_t end = whole;
      bool is_float = false;
      if (end < source_.size() && source_[end] == '.') {
        if (const std::size_t fraction = digits(end + 1); fraction != std::string::npos) {
          end = fraction;
          is_float = true;
        }
      }
      if (end < source_.size() && (source_[end] == 'e' || source_[end] == 'E')) {
        const std::size_t sign =
            end + 1 < source_.size() && (source_[end + 1] == '+' || source_[end + 1] == '-') ? 1
                                                                                             : 0;
        if (const std::size_t exponent = digits(end + 1 + sign); exponent != std::string::npos) {
          end = exponent;
          is_float = true;
        }
      }
      if (is_float) return take(TokenKind::kFloat, end);
    }
    if (source_[start] == '0') {
      const char base =
          start + 1 < source_.size() ? static_cast<char>(source_[start + 1] | 0x20) : '\0';
      if (base == 'x' || base == 'o' || base == 'b') {
        std::size_t end = start + 2;
        const auto belongs = [&](char c) {
          const char low = static_cast<char>(c | 0x20);
          return c == '_' || (base == 'x' ? is_digit(c) || (low >= 'a' && low <= 'f')
                                          : c >= '0' && c <= (base == 'o' ? '7' : '1'));
        };
        while (end < source_.size() && belongs(source_[end])) ++end;
        if (end > start + 2) return take(TokenKind::kInteger, end);
      }
      std::size_t end = start + 1;
      while (end < source_.size() && source_[end] == '0') ++end;
      return take(TokenKind::kInteger, end);
    }
    take(TokenKind::kInteger, digits(start));
  }

  Step string() {
    const char quote = source_[at_];
    std::size_t end = at_ + 1;
    while (end < source_.size() && source_[end] != quote) end += source_[end] == '\\' ? 2 : 1;
    if (end >= source_.size())
      return failure(ErrorClass::kSyntax, "unexpected char {} at {}: the string has no end", quote,
                     at_);
    auto text = unescaped(std::string_view(source_).substr(at_ + 1, end - at_ - 1));
    if (!text) return std::unexpected(std::move(text.error()));
    add(TokenKind::kString, std::move(*text));
    advance(end + 1);
    return {};
  }

  static Outcome<std::string> unescaped(std::string_view text) {
    std::string out;
    for (std::size_t i = 0; i < text.size(); ++i) {
      if (text[i] != '\\' || i + 1 == text.size()) {
        out += text[i];
        continue;
      }
      const char c = text[++i];
      const auto hexadecimal = [&](std::size_t n) -> Outcome<void> {
        char32_t point = 0;
        for (std::size_t k = 1; k <= n; ++k) {
          const char digit = i + k < text.size() ? text[i + k] : '\0';
          const char low = static_cast<char>(digit | 0x20);
          if (is_digit(digit)) {
            point = point * 16 + static_cast<char32_t>(digit - '0');
          } else if (low >= 'a' && low <= 'f') {
            point = point * 16 + static_cast<char32_t>(low - 'a' + 10);
          } else {
            return failure(ErrorClass::kSyntax, "truncated \\{} escape in a string", c);
          }
        }
        if (point > 0x10FFFF || (point >= 0xD800 && point < 0xE000))
          return failure(ErrorClass::kSyntax, "\\{} escape is no character", c);
        utf8::append(out, point);
        i += n;
        return {};
      };
      Outcome<void> done;
      switch (c) {
        case '\n':
          break;
        case '\\':
        case '\'':
        case '"':
          out += c;
          break;
        case 'a':
          out += '\a';
          break;
        case 'b':
          out += '\b';
          break;
        case 'f':
          out += '\f';
          break;
        case 'n':
          out += '\n';
          break;
        case 'r':
          out += '\r';
          break;
        case 't':
          out += '\t';
          break;
        case 'v':
          out += '\v';
          break;
        case 'x':
          done = hexadecimal(2);
          break;
        case 'u':
          done = hexadecimal(4);
          break;
        case 'U':
          done = hexadecimal(8);
          break;
        case 'N':
          return failure(ErrorClass::kSyntax, "\\N escapes are not implemented");
        default:
          if (c >= '0' && c <= '7') {
            char32_t point = 0;
            std::size_t n = 0;
            for (; n < 3 && i + n < text.size() && text[i + n] >= '0' && text[i + n] <= '7'; ++n) {
              point = point * 8 + static_cast<char32_t>(text[i + n] - '0');
            }
            utf8::append(out, point);
            i += n - 1;
          } else {
            out += '\\';
            out += c;
          }
      }
      if (!done) return std::unexpected(std::move(done.error()));
    }
    return out;
  }

  Step operation(std::string& brackets) {
    static constexpr std::string_view kLong[] = {"//", "**", "==", "!=", ">=", "<="};
    for (const std::string_view text : kLong) {
      if (follows(text, at_)) {
        add(TokenKind::kOperator, std::string(text));
        at_ += 2;
        return {};
      }
    }
    const char c = source_[at_];
    if (std::string_view("+-/*%~[](){}><=.:|,;").find(c) == std::string_view::npos) {
      return failure(ErrorClass::kSyntax, "unexpected char '{}' at {}", c, at_);
    }
    if (c == '(') brackets += ')';
    if (c == '[') brackets += ']';
    if (c == '{') brackets += '}';
    if (c == ')' || c == ']' || c == '}') {
      if (brackets.empty()) return failure(ErrorClass::kSyntax, "unexpected '{}'", c);
      if (brackets.back() != c)
        return failure(ErrorClass::kSyntax, "unexpected '{}', expected '{}'", c, brackets.back());
      brackets.pop_back();
    }
    add(TokenKind::kOperator, std::string(1, c));
    ++at_;
    return {};
  }

  std::string source_;
  std::size_t at_ = 0;
  int line_ = 1;
  bool started_ = false;
  bool line_starting_ = true;
  std::vector<Token> tokens_;
};

}  // namespace

Outcome<std::vector<Token>> tokenize(std::string_view source) {
  if (source.size() > kMaxBytes)
    return failure(ErrorClass::kLimit, "a template of {} bytes, at most {}", source.size(),
                   kMaxBytes);
  if (!utf8::is_valid(source))
    return failure(ErrorClass::kSyntax, "the template is not valid UTF-8");
  std::string text;
  text.reserve(source.size());
  for (std::size_t i = 0; i < source.size(); ++i) {  // all kinds of line ends are one
    if (source[i] != '\r') {
      text += source[i];
    } else {
      text += '\n';
      if (i + 1 < source.size() && source[i + 1] == '\n') ++i;
    }
  }
  if (text.ends_with('\n')) text.pop_back();
  return Lexer(std::move(text)).run();
}

std::string describe(const Token& token) {
  switch (token.kind) {
    case TokenKind::kData:
      return "text";
    case TokenKind::kBlockBegin:
      return "begin of statement block";
    case TokenKind::kBlockEnd:
      return "end of statement block";
    case TokenKind::kVariableBegin:
      return "begin of print statement";
    case TokenKind::kVariableEnd:
      return "end of print statement";
    case TokenKind::kEnd:
      return "end of template";
    default:
      return "'" + token.text.substr(0, 60) + "'";
  }
}

}  // namespace gem8::jinja
