#include "text/tokenizer/added_tokens.h"

#include <algorithm>

namespace gem8 {

void AddedTokens::add(std::string_view text, TokenId id) {
  std::uint32_t at = 0;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    auto& children = nodes_[at].children;
    const auto place =
        std::ranges::lower_bound(children, byte, {}, [](const auto& pair) { return pair.first; });
    if (place != children.end() && place->first == byte) {
      at = place->second;
      continue;
    }
    const auto fresh = static_cast<std::uint32_t>(nodes_.size());
    children.insert(place, {byte, fresh});
    nodes_.emplace_back();
    at = fresh;
  }
  nodes_[at].id = id;
}

const AddedTokens::Node* AddedTokens::child(const Node& node, char c) const {
  const auto byte = static_cast<unsigned char>(c);
  const auto place = std::ranges::lower_bound(node.children, byte, {},
                                              [](const auto& pair) { return pair.first; });
  return place != node.children.end() && place->first == byte ? &nodes_[place->second] : nullptr;
}

std::optional<AddedTokens::Match> AddedTokens::next(std::string_view text, std::size_t from) const {
  const auto& roots = nodes_.front().children;
  if (roots.empty()) return std::nullopt;
  for (std::size_t begin = from; begin < text.size(); ++begin) {
    if (roots.size() == 1) {  // all of Gemma's begin with '<'
      begin = text.find(static_cast<char>(roots.front().first), begin);
      if (begin == std::string_view::npos) return std::nullopt;
    }
    std::optional<Match> longest;
    const Node* node = &nodes_.front();
    for (std::size_t at = begin; at < text.size(); ++at) {
      node = child(*node, text[at]);
      if (node == nullptr) break;
      if (node->id) longest = Match{begin, at + 1, *node->id};
    }
    if (longest) return longest;
  }
  return std::nullopt;
}

}  // namespace gem8
