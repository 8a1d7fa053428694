#pragma once

#include <string>
#include <vector>

#include "text/tokenizer/added_tokens.h"
#include "text/tokenizer/bpe.h"
#include "text/tokenizer/tokenizer.h"
#include "text/tokenizer/vocabulary.h"

namespace gem8 {

/// One "replace this string by that" of a normalizer or decoder.
struct TextReplacement {
  std::string pattern;  ///< not empty
  std::string content;
};

struct Tokenizer::Data {
  Vocabulary vocabulary;
  Bpe bpe;
  AddedTokens all_added;
  AddedTokens ordinary_added;  ///< those that are not special
  std::vector<bool> special;   ///< by id
  std::vector<TextReplacement> normalizer;
  std::string split_after;               ///< pre-tokenizer: pieces end after this; empty for none
  std::vector<TextReplacement> decoder;  ///< before byte fallback
  bool byte_fallback = false;            ///< in the decoder
};

/// Reads tokenizer.json.
class TokenizerFile {
 public:
  static Result<std::unique_ptr<Tokenizer::Data>> read(std::string_view json);
};

}  // namespace gem8
