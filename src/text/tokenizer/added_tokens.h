#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "foundation/token_id.h"

namespace gem8 {

/// The tokens that are found in raw text before anything else happens to it: a trie, matched
/// leftmost and longest.
class AddedTokens {
 public:
  /// `text` is not empty. A text added again gets the newer id.
  void add(std::string_view text, TokenId id);

  struct Match {
    std::size_t begin;
    std::size_t end;
    TokenId id;
  };
  /// The first match at or after `from`.
  std::optional<Match> next(std::string_view text, std::size_t from) const;

 private:
  struct Node {
    std::vector<std::pair<unsigned char, std::uint32_t>> children;
    std::optional<TokenId> id;
  };
  const Node* child(const Node& node, char c) const;

  std::vector<Node> nodes_ = std::vector<Node>(1);
};

}  // namespace gem8
