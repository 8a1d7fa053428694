#include "text/tokenizer/bpe.h"

#include <algorithm>
#include <limits>

#include "text/unicode/utf8.h"

namespace gem8 {
namespace {

constexpr std::size_t kMaxProbes = 1024;
constexpr std::size_t kJoinedBits = std::size_t{1}
                                    << 22;  // 512 kB: stays in the second-level cache
constexpr std::size_t kShortWord =
    24;  // symbols up to which a scan for the lowest rank beats a heap
constexpr std::uint32_t kNoRank = std::numeric_limits<std::uint32_t>::max();
constexpr std::int32_t kUnknownByte = -2;  // a place where unknown characters are to be written

std::size_t joined_bit(char32_t left, char32_t right) {
  return mix(static_cast<std::uint64_t>(left) << 32 | right) & (kJoinedBits - 1);
}

/// Words already encoded in this call: where their ids stand in the output. Direct-mapped: a newer
/// word replaces an older one.
class SeenWords {
 public:
  explicit SeenWords(std::size_t n_text_bytes) {
    std::size_t n = 64;
    while (n < 8192 && n * 16 < n_text_bytes) n *= 2;
    entries_.resize(n);
  }
  struct Entry {
    const char* text = nullptr;
    std::uint32_t n_bytes = 0;
    std::uint32_t n_ids = 0;
    std::size_t first_id = 0;
  };
  Entry& of(std::string_view word) { return entries_[hash_bytes(word) & (entries_.size() - 1)]; }

 private:
  std::vector<Entry> entries_;
};

}  // namespace

const Bpe::Merge* Bpe::find_merge(std::int32_t left, std::int32_t right) const {
  const std::uint64_t pair = pair_of(left, right);
  const std::size_t mask = merges_.size() - 1;
  for (std::size_t at = mix(pair) & mask;; at = (at + 1) & mask) {
    if (merges_[at].pair == pair) return &merges_[at];
    if (merges_[at].pair == kNoPair) return nullptr;
  }
}

Status Bpe::insert(const Merge& merge) {
  const std::size_t mask = merges_.size() - 1;
  std::size_t at = mix(merge.pair) & mask;
  for (std::size_t n_probes = 0; merges_[at].pair != kNoPair; at = (at + 1) & mask) {
    if (merges_[at].pair == merge.pair)
      return fail(Code::kCorrupt, "merge {} repeats an earlier one", merge.rank);
    if (++n_probes == kMaxProbes)
      return fail(Code::kCorrupt, "merge {}: too many merges with one hash", merge.rank);
  }
  merges_[at] = merge;
  return {};
}

void Bpe::reserve(std::size_t n_merges) {
  std::size_t n = 16;
  while (n < 2 * n_merges) n *= 2;
  if (n <= merges_.size()) return;
  std::vector<Merge> old = std::move(merges_);
  merges_.assign(n, {});
  for (const Merge& merge : old) {
    if (merge.pair == kNoPair) continue;
    std::size_t at = mix(merge.pair) & (n - 1);
    while (merges_[at].pair != kNoPair) at = (at + 1) & (n - 1);
    merges_[at] = merge;
  }
}

Status Bpe::add_merge(const Vocabulary& vocabulary, TokenId left, TokenId right,
                      std::optional<TokenId> merged) {
  reserve(n_merges_ + 1);
  if (!merged)
    return fail(Code::kCorrupt, "merge {}: '{}' + '{}' is no token", n_merges_,
                *vocabulary.text(left), *vocabulary.text(right));
  GEM8_RETURN_IF_ERROR(insert({pair_of(value_of(left), value_of(right)),
                               static_cast<std::uint32_t>(n_merges_), value_of(*merged)}));
  ++n_merges_;
  const auto index = static_cast<std::size_t>(value_of(*merged));
  if (index >= is_merged_.size()) is_merged_.resize(std::max(index + 1, vocabulary.size()));
  is_merged_[index] = true;
  return {};
}

Status Bpe::finish(const Vocabulary& vocabulary, bool byte_fallback, Unknown unknown) {
  reserve(1);
  unknown_ = unknown;
  character_pages_.resize(0x110000 / 256);
  joined_.assign(kJoinedBits / 64, 0);
  for (std::size_t i = 0; i < vocabulary.size(); ++i) {
    const auto text = vocabulary.text(static_cast<TokenId>(i));
    if (!text || text->empty()) continue;
    auto [point, next] = utf8::decode_at(*text, 0);
    if (next == text->size()) {
      auto& page = character_pages_[point / 256];
      if (!page) {
        page = std::make_unique<std::array<std::int32_t, 256>>();
        page->fill(-1);
      }
      (*page)[point % 256] = static_cast<std::int32_t>(i);
    } else if (i < is_merged_.size() && is_merged_[i]) {
      while (next < text->size()) {
        const auto [second, after] = utf8::decode_at(*text, next);
        const std::size_t bit = joined_bit(point, second);
        joined_[bit / 64] |= std::uint64_t{1} << (bit % 64);
        point = second;
        next = after;
      }
    }
  }
  if (!byte_fallback) return {};
  for (int byte = 0; byte < 256; ++byte) {
    const std::string name = fmt::format("<0x{:02X}>", byte);
    const auto id = vocabulary.find(name);
    if (!id) return fail(Code::kUnsupported, "byte_fallback without the token '{}'", name);
    bytes_.push_back(value_of(*id));
  }
  std::vector<std::int32_t> sorted = bytes_;
  std::ranges::sort(sorted);
  for (const Merge& merge : merges_) {
    if (merge.pair == kNoPair) continue;
    bytes_merge_ =
        bytes_merge_ ||
        std::ranges::binary_search(sorted, static_cast<std::int32_t>(merge.pair >> 32)) ||
        std::ranges::binary_search(sorted, static_cast<std::int32_t>(merge.pair & 0xFFFFFFFF));
  }
  return {};
}

std::int32_t Bpe::id_of(char32_t point) const {
  const auto& page = character_pages_[point / 256];
  return page ? (*page)[point % 256] : -1;
}

bool Bpe::may_join(char32_t left, char32_t right) const {
  const std::size_t bit = joined_bit(left, right);
  return (joined_[bit / 64] >> (bit % 64) & 1) != 0;
}

void Bpe::encode(std::string_view text, std::vector<TokenId>& out) const {
  SeenWords seen(text.size());
  std::vector<std::int32_t> symbols;
  constexpr std::size_t kCachedBytes = 48;
  // Unknown characters are rare and, fused, reach over words: then the text is one word.
  const bool splits = !bytes_.empty() && !bytes_merge_;
  std::size_t start = 0;
  while (start < text.size()) {
    // Find the word's end: the first boundary that no merge crosses.
    auto [point, end] = utf8::decode_at(text, start);
    bool known = id_of(point) >= 0;
    while (end < text.size()) {
      const auto [next_point, after] = utf8::decode_at(text, end);
      const bool next_known = id_of(next_point) >= 0;
      if (splits && (!known || !next_known || !may_join(point, next_point))) break;
      point = next_point;
      known = next_known;
      end = after;
    }
    const std::string_view word = text.substr(start, end - start);
    SeenWords::Entry* entry = word.size() <= kCachedBytes ? &seen.of(word) : nullptr;
    if (entry != nullptr && entry->text != nullptr &&
        std::string_view(entry->text, entry->n_bytes) == word) {
      const std::size_t first = out.size();
      out.resize(first + entry->n_ids);
      std::copy_n(out.begin() + static_cast<std::ptrdiff_t>(entry->first_id), entry->n_ids,
                  out.begin() + static_cast<std::ptrdiff_t>(first));
      start = end;
      continue;
    }
    symbols.clear();
    for (std::size_t at = 0; at < word.size();) {
      const auto [character, after] = utf8::decode_at(word, at);
      if (const std::int32_t id = id_of(character); id >= 0) {
        symbols.push_back(id);
      } else if (!bytes_.empty()) {
        for (std::size_t k = at; k < after; ++k)
          symbols.push_back(bytes_[static_cast<unsigned char>(word[k])]);
      } else if (unknown_.id &&
                 !(unknown_.fuse && !symbols.empty() && symbols.back() == kUnknownByte)) {
        symbols.push_back(kUnknownByte);
      }
      at = after;
    }
    const std::size_t first = out.size();
    encode_word(symbols, out);
    if (entry != nullptr) {
      *entry = {word.data(), static_cast<std::uint32_t>(word.size()),
                static_cast<std::uint32_t>(out.size() - first), first};
    }
    start = end;
  }
}

void Bpe::encode_word(std::vector<std::int32_t>& symbols, std::vector<TokenId>& out) const {
  if (unknown_.id) std::ranges::replace(symbols, kUnknownByte, value_of(*unknown_.id));
  if (symbols.size() > kShortWord) {
    merge_long(symbols);
  } else if (symbols.size() > 1) {
    merge_short(symbols);
  }
  for (const std::int32_t id : symbols) out.push_back(static_cast<TokenId>(id));
}

void Bpe::merge_short(std::vector<std::int32_t>& symbols) const {
  std::array<std::uint32_t, kShortWord> rank;
  std::array<std::int32_t, kShortWord> merged;
  std::size_t n = symbols.size();
  const auto look = [&](std::size_t i) {
    const Merge* merge = find_merge(symbols[i], symbols[i + 1]);
    rank[i] = merge != nullptr ? merge->rank : kNoRank;
    merged[i] = merge != nullptr ? merge->merged : 0;
  };
  for (std::size_t i = 0; i + 1 < n; ++i) look(i);
  while (n > 1) {
    std::size_t best = 0;
    for (std::size_t i = 1; i + 1 < n; ++i) {
      if (rank[i] < rank[best]) best = i;
    }
    if (rank[best] == kNoRank) break;
    symbols[best] = merged[best];
    for (std::size_t i = best + 1; i + 1 < n; ++i) {
      symbols[i] = symbols[i + 1];
      rank[i] = rank[i + 1];
      merged[i] = merged[i + 1];
    }
    --n;
    if (best > 0) look(best - 1);
    if (best + 1 < n) look(best);
  }
  symbols.resize(n);
}

struct Bpe::Symbol {
  std::int32_t id;
  std::uint32_t previous;
  std::uint32_t next;
};

void Bpe::merge_long(std::vector<std::int32_t>& symbols) const {
  constexpr std::uint32_t kEnd = 0xFFFFFFFF;
  struct Candidate {
    std::uint64_t rank_and_position;
    std::int32_t merged;
    bool operator<(const Candidate& other) const {
      return rank_and_position > other.rank_and_position;
    }  // for a min-heap
  };
  const auto n = static_cast<std::uint32_t>(symbols.size());
  std::vector<Symbol> list(n);
  std::vector<Candidate> heap;
  heap.reserve(n);
  const auto candidate_at = [&](std::uint32_t i) -> std::optional<Candidate> {
    if (i == kEnd || list[i].next == kEnd) return std::nullopt;
    const Merge* merge = find_merge(list[i].id, list[list[i].next].id);
    if (merge == nullptr) return std::nullopt;
    return Candidate{static_cast<std::uint64_t>(merge->rank) << 32 | i, merge->merged};
  };
  for (std::uint32_t i = 0; i < n; ++i)
    list[i] = {symbols[i], i == 0 ? kEnd : i - 1, i + 1 == n ? kEnd : i + 1};
  for (std::uint32_t i = 0; i < n; ++i) {
    if (const auto candidate = candidate_at(i)) heap.push_back(*candidate);
  }
  std::make_heap(heap.begin(), heap.end());
  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end());
    const Candidate top = heap.back();
    heap.pop_back();
    const auto left = static_cast<std::uint32_t>(top.rank_and_position);
    if (list[left].id < 0 || list[left].next == kEnd) continue;
    const std::uint32_t right = list[left].next;
    const Merge* merge = find_merge(list[left].id, list[right].id);
    if (merge == nullptr || merge->merged != top.merged)
      continue;  // made of symbols that are no longer there
    list[left].id = merge->merged;
    list[left].next = list[right].next;
    if (list[right].next != kEnd) list[list[right].next].previous = left;
    list[right].id = -1;
    for (const std::uint32_t i : {list[left].previous, left}) {
      if (const auto candidate = candidate_at(i)) {
        heap.push_back(*candidate);
        std::push_heap(heap.begin(), heap.end());
      }
    }
  }
  std::size_t n_left = 0;
  for (const Symbol& symbol : list) {
    if (symbol.id >= 0) symbols[n_left++] = symbol.id;
  }
  symbols.resize(n_left);
}

}  // namespace gem8
