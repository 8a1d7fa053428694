#pragma once

#include <string>

#include "text/tokenizer/tokenizer.h"

namespace gem8 {

/// Text from ids that arrive one at a time. Each character leaves as soon as it is complete, and
/// what leaves is valid UTF-8; at most three bytes are held back. The joined text equals
/// Tokenizer::decode() except in runs of byte tokens that are partly invalid: there each bad byte
/// is one U+FFFD and valid characters stay, while decode() gives up the whole run.
class IncrementalDecoder {
 public:
  /// `tokenizer` outlives this.
  explicit IncrementalDecoder(const Tokenizer& tokenizer, bool skip_special = false)
      : tokenizer_(&tokenizer), skip_special_(skip_special) {}

  /// The text that became final with this id. Ids without a token, and skipped ones, give nothing
  /// and interrupt nothing.
  std::string feed(TokenId id);
  /// The text that is held back: each byte of a cut-off character as U+FFFD. Afterwards the decoder
  /// is as new.
  std::string flush();

 private:
  const Tokenizer* tokenizer_;
  bool skip_special_;
  std::string held_;
};

}  // namespace gem8
