#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>
#include <vector>

#include "text/tokenizer/vocabulary.h"

namespace gem8 {

/// Byte-pair encoding of one normalised piece of text: the merge of lowest rank first, leftmost
/// among equals (Sennrich et al. 2016), over Unicode characters, with characters outside the
/// vocabulary spelled as byte tokens or as one unknown token.
///
/// The pieces here are whole prompts, for this vocabulary has no pre-split. What makes that fast
/// and exact: a boundary between two characters that stand side by side in no mergeable token can
/// never be merged across, so the text falls apart there into words that are independent of each
/// other, short, and mostly seen before.
class Bpe {
 public:
  struct Unknown {
    std::optional<TokenId> id;  ///< of the unknown token; without one, unknown characters vanish
    bool fuse = false;          ///< neighbouring unknown characters become one token
  };

  /// `left` and `right` merge with the next rank into `merged`, which is the token their texts
  /// joined make. Errors: kCorrupt when their concatenation is no token or the pair was added
  /// before.
  Status add_merge(const Vocabulary& vocabulary, TokenId left, TokenId right,
                   std::optional<TokenId> merged);

  /// To be called once after the last merge. With `byte_fallback`, kUnsupported when one of the 256
  /// byte tokens is missing.
  Status finish(const Vocabulary& vocabulary, bool byte_fallback, Unknown unknown);

  void reserve(std::size_t n_merges);

  /// Appends the ids of `text` (valid UTF-8). O(n log n) for any text. Thread-safe.
  void encode(std::string_view text, std::vector<TokenId>& out) const;

 private:
  struct Merge {
    std::uint64_t pair = kNoPair;
    std::uint32_t rank = 0;
    std::int32_t merged = 0;
  };
  struct Symbol;
  static constexpr std::uint64_t kNoPair = ~std::uint64_t{0};

  static std::uint64_t pair_of(std::int32_t left, std::int32_t right) {
    return static_cast<std::uint64_t>(static_cast<std::uint32_t>(left)) << 32 |
           static_cast<std::uint32_t>(right);
  }
  const Merge* find_merge(std::int32_t left, std::int32_t right) const;
  Status insert(const Merge& merge);
  std::int32_t id_of(char32_t point) const;
  bool may_join(char32_t left, char32_t right) const;
  void encode_word(std::vector<std::int32_t>& symbols, std::vector<TokenId>& out) const;
  void merge_short(std::vector<std::int32_t>& symbols) const;
  void merge_long(std::vector<std::int32_t>& symbols) const;

  std::vector<Merge> merges_;  // open addressing, at most half full
  std::size_t n_merges_ = 0;
  std::vector<bool> is_merged_;  // by id: whether some merge makes it
  std::vector<std::unique_ptr<std::array<std::int32_t, 256>>>
      character_pages_;                // id by code point, -1 for none
  std::vector<std::uint64_t> joined_;  // bit by hash of two neighbouring characters; a false
                                       // positive costs time, not correctness
  std::vector<std::int32_t> bytes_;    // ids of the byte tokens; empty without byte fallback
  bool bytes_merge_ = false;
  Unknown unknown_;
};

}  // namespace gem8
