#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "foundation/result.h"
#include "foundation/token_id.h"

namespace gem8 {

/// A vocabulary in the form of Hugging Face's tokenizer.json, and text to ids and back as the
/// `tokenizers` library (0.23) does it with the same file: added tokens, normalizer (Replace),
/// pre-tokenizer (Split on a string), BPE with byte fallback, decoder (Replace, ByteFallback,
/// Fuse). All const members are thread-safe.
class Tokenizer {
 public:
  /// Reads `path`, a tokenizer.json or a folder that holds one. Errors: kNotFound; kCorrupt for a
  /// file that contradicts itself; kUnsupported naming the first thing in it that is not
  /// implemented (nothing is silently ignored).
  static Result<Tokenizer> load(const std::filesystem::path& path);
  static Result<Tokenizer> parse(std::string_view json);

  Tokenizer(Tokenizer&&) noexcept;
  Tokenizer& operator=(Tokenizer&&) noexcept;
  ~Tokenizer();

  enum class AddedTokenText {
    kMatch,    ///< the text of an added token, wherever it stands, becomes that token
    kOrdinary  ///< special tokens' text is text like any other; added tokens that are not special
               ///< still match
  };
  /// The ids of `text` (valid UTF-8; each byte that is not counts as U+FFFD). No <bos> is added.
  /// O(n log n).
  std::vector<TokenId> encode(std::string_view text,
                              AddedTokenText added = AddedTokenText::kMatch) const;

  /// Ids that no token has vanish. A run of byte tokens that is not valid UTF-8 becomes one U+FFFD
  /// per byte.
  std::string decode(std::span<const TokenId> ids, bool skip_special = false) const;

  /// The token as the vocabulary spells it ("▁the", "<0x0A>"); empty for an id without a token.
  std::string_view piece(TokenId id) const;
  /// The text this token stands for ("\n" for <0x0A>: raw, possibly a part of a character).
  std::string token_bytes(TokenId id) const;
  std::optional<TokenId> token_id(std::string_view piece) const;
  bool is_special(TokenId id) const;
  /// The byte that a byte token stands for.
  std::optional<unsigned char> byte_of(TokenId id) const;
  /// One more than the highest id.
  std::size_t vocab_size() const;

 private:
  struct Data;
  friend class TokenizerFile;
  friend class TokenizerReader;
  explicit Tokenizer(std::unique_ptr<Data> data);
  /// What the decoder makes of an ordinary token.
  void append_text(std::string_view piece, std::string& out) const;
  friend class IncrementalDecoder;

  std::unique_ptr<const Data> data_;
};

}  // namespace gem8
