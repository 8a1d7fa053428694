#include "text/tokenizer/tokenizer.h"

#include "foundation/mapped_file.h"
#include "text/tokenizer/tokenizer_data.h"
#include "text/unicode/utf8.h"

namespace gem8 {
namespace {

void replace_all(std::string& text, const TextReplacement& replacement) {
  std::size_t at = text.find(replacement.pattern);
  if (at == std::string::npos) return;
  std::string out;
  out.reserve(text.size() + text.size() / 2);
  std::size_t copied = 0;
  for (; at != std::string::npos; at = text.find(replacement.pattern, copied)) {
    out.append(text, copied, at - copied);
    out += replacement.content;
    copied = at + replacement.pattern.size();
  }
  out.append(text, copied);
  text = std::move(out);
}

/// The same text with every bad byte as U+FFFD.
std::string repaired(std::string_view text) {
  std::string out;
  while (!text.empty()) {
    const utf8::Head head = utf8::head_of(text);
    if (head.state == utf8::Head::State::kComplete) {
      out += text.substr(0, head.n_bytes);
      text.remove_prefix(head.n_bytes);
    } else {
      out += utf8::kReplacement;
      text.remove_prefix(1);
    }
  }
  return out;
}

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  return -1;
}

}  // namespace

Tokenizer::Tokenizer(std::unique_ptr<Data> data) : data_(std::move(data)) {}
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;
Tokenizer::~Tokenizer() = default;

Result<Tokenizer> Tokenizer::load(const std::filesystem::path& path) {
  std::error_code ignored;
  const auto file_path =
      std::filesystem::is_directory(path, ignored) ? path / "tokenizer.json" : path;
  GEM8_TRY(const MappedFile file, MappedFile::open(file_path));
  const auto bytes = file.bytes();
  auto tokenizer = parse({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
  if (!tokenizer) return fail_in(file_path.string(), std::move(tokenizer).error());
  return tokenizer;
}

Result<Tokenizer> Tokenizer::parse(std::string_view json) {
  GEM8_TRY(auto data, TokenizerFile::read(json));
  return Tokenizer(std::move(data));
}

std::vector<TokenId> Tokenizer::encode(std::string_view text, AddedTokenText added) const {
  std::string valid;
  if (!utf8::is_valid(text)) {
    valid = repaired(text);
    text = valid;
  }
  std::vector<TokenId> ids;
  std::string piece;
  const auto encode_gap = [&](std::string_view gap) {
    if (gap.empty()) return;
    piece = gap;
    for (const TextReplacement& replacement : data_->normalizer) replace_all(piece, replacement);
    std::string_view rest = piece;
    if (!data_->split_after.empty()) {
      for (std::size_t at = rest.find(data_->split_after); at != std::string_view::npos;
           at = rest.find(data_->split_after)) {
        const std::size_t end = at + data_->split_after.size();
        data_->bpe.encode(rest.substr(0, end), ids);
        rest.remove_prefix(end);
      }
    }
    if (!rest.empty()) data_->bpe.encode(rest, ids);
  };
  const AddedTokens& matched =
      added == AddedTokenText::kMatch ? data_->all_added : data_->ordinary_added;
  std::size_t at = 0;
  while (const auto match = matched.next(text, at)) {
    encode_gap(text.substr(at, match->begin - at));
    ids.push_back(match->id);
    at = match->end;
  }
  encode_gap(text.substr(at));
  return ids;
}

void Tokenizer::append_text(std::string_view piece, std::string& out) const {
  bool replaced = false;
  for (const TextReplacement& replacement : data_->decoder) {
    replaced = replaced || piece.find(replacement.pattern) != std::string_view::npos;
  }
  if (!replaced) {
    out += piece;
    return;
  }
  std::string text(piece);
  for (const TextReplacement& replacement : data_->decoder) replace_all(text, replacement);
  out += text;
}

std::optional<unsigned char> Tokenizer::byte_of(TokenId id) const {
  if (!data_->byte_fallback) return std::nullopt;
  const std::string_view text = piece(id);
  if (text.size() != 6 || !text.starts_with("<0x") || text.back() != '>') return std::nullopt;
  const int high = hex_digit(text[3]), low = hex_digit(text[4]);
  if (high < 0 || low < 0) return std::nullopt;
  return static_cast<unsigned char>(high * 16 + low);
}

std::string Tokenizer::decode(std::span<const TokenId> ids, bool skip_special) const {
  std::string out;
  std::string run;  // of byte tokens
  const auto end_run = [&] {
    if (run.empty()) return;
    if (utf8::is_valid(run)) {
      out += run;
    } else {
      for (std::size_t i = 0; i < run.size(); ++i) out += utf8::kReplacement;
    }
    run.clear();
  };
  for (const TokenId id : ids) {
    const auto text = data_->vocabulary.text(id);
    if (!text || (skip_special && is_special(id))) continue;
    if (const auto byte = byte_of(id)) {
      run += static_cast<char>(*byte);
      continue;
    }
    end_run();
    append_text(*text, out);
  }
  end_run();
  return out;
}

std::string_view Tokenizer::piece(TokenId id) const {
  return data_->vocabulary.text(id).value_or(std::string_view());
}

std::string Tokenizer::token_bytes(TokenId id) const {
  if (const auto byte = byte_of(id)) return std::string(1, static_cast<char>(*byte));
  std::string out;
  append_text(piece(id), out);
  return out;
}

std::optional<TokenId> Tokenizer::token_id(std::string_view piece) const {
  return data_->vocabulary.find(piece);
}

bool Tokenizer::is_special(TokenId id) const {
  const auto index = static_cast<std::size_t>(value_of(id));
  return value_of(id) >= 0 && index < data_->special.size() && data_->special[index];
}

std::size_t Tokenizer::vocab_size() const {
  return data_->vocabulary.size();
}

}  // namespace gem8
