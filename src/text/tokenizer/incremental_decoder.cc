#include "text/tokenizer/incremental_decoder.h"

#include "text/unicode/utf8.h"

namespace gem8 {

std::string IncrementalDecoder::feed(TokenId id) {
  const std::string_view piece = tokenizer_->piece(id);
  if (piece.empty() || (skip_special_ && tokenizer_->is_special(id))) return {};
  std::string out;
  const auto byte = tokenizer_->byte_of(id);
  if (!byte) {
    out = flush();
    tokenizer_->append_text(piece, out);
    return out;
  }
  held_ += static_cast<char>(*byte);
  while (!held_.empty()) {
    const utf8::Head head = utf8::head_of(held_);
    if (head.state == utf8::Head::State::kIncomplete) break;
    if (head.state == utf8::Head::State::kComplete) {
      out += held_.substr(0, head.n_bytes);
    } else {
      for (std::size_t i = 0; i < head.n_bytes; ++i) out += utf8::kReplacement;
    }
    held_.erase(0, head.n_bytes);
  }
  return out;
}

std::string IncrementalDecoder::flush() {
  std::string out;
  for (std::size_t i = 0; i < held_.size(); ++i) out += utf8::kReplacement;
  held_.clear();
  return out;
}

}  // namespace gem8
