#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "foundation/result.h"
#include "foundation/token_id.h"

namespace gem8 {

/// Token strings by id and ids by string: one arena of bytes, one open-addressing table of ids.
/// Thread-safe to read.
class Vocabulary {
 public:
  /// Errors: kCorrupt for a negative or huge id, an id or a string used twice, and when the strings
  /// collide in the table beyond reason.
  Status add(std::string_view text, std::int64_t id);

  std::optional<TokenId> find(std::string_view text) const { return find(text, hash_of(text)); }

  /// find() in two steps, for many look-ups at a time: the memory that the second needs is fetched
  /// while others are under way.
  static std::uint64_t hash_of(std::string_view text);
  void prefetch(std::uint64_t hash) const {
    __builtin_prefetch(&slots_[hash & (slots_.size() - 1)]);
  }
  void prefetch_text(std::uint64_t hash) const {
    __builtin_prefetch(arena_.data() + slots_[hash & (slots_.size() - 1)].offset);
  }
  std::optional<TokenId> find(std::string_view text, std::uint64_t hash) const;
  /// The string of an id; nullptr-like (no value) for ids that nothing was added under.
  std::optional<std::string_view> text(TokenId id) const;
  /// One more than the highest id.
  std::size_t size() const { return entries_.size(); }

 private:
  struct Entry {
    std::uint32_t offset = kAbsent;
    std::uint32_t n_bytes = 0;
  };
  struct Slot {
    std::uint32_t id_plus_one = 0;
    std::uint32_t tag = 0;  // of the hash: most misses end without touching the arena
    std::uint32_t offset = 0;
    std::uint32_t n_bytes = 0;
  };
  static constexpr std::uint32_t kAbsent = 0xFFFFFFFF;

  std::string_view view(const Entry& entry) const {
    return {arena_.data() + entry.offset, entry.n_bytes};
  }
  std::string_view view(const Slot& slot) const {
    return {arena_.data() + slot.offset, slot.n_bytes};
  }
  void grow();

  std::string arena_;
  std::vector<Entry> entries_;
  std::vector<Slot> slots_;
  std::size_t n_used_ = 0;
};

/// 64 well-mixed bits of a byte string; not for hostile counterparts alone: callers bound their
/// probing.
std::uint64_t hash_bytes(std::string_view bytes);

/// 64 well-mixed bits of a number.
constexpr std::uint64_t mix(std::uint64_t x) {
  x ^= x >> 32;
  x *= 0xd6e8feb86659fd93u;  // Mulvey's rrmxmx constant, as in the splitmix family
  x ^= x >> 32;
  x *= 0xd6e8feb86659fd93u;
  x ^= x >> 32;
  return x;
}

}  // namespace gem8
