#include "text/tokenizer/vocabulary.h"

#include <cstring>

namespace gem8 {
namespace {

constexpr std::int64_t kMaxId = (1 << 24) - 1;  // 64 times the largest vocabulary published so far
constexpr std::size_t kMaxProbes = 1024;        // at most half full, a run this long is no accident

}  // namespace

std::uint64_t hash_bytes(std::string_view bytes) {
  std::uint64_t hash = 0x9e3779b97f4a7c15u ^ bytes.size();
  std::size_t i = 0;
  for (; i + 8 <= bytes.size(); i += 8) {
    std::uint64_t word = 0;
    std::memcpy(&word, bytes.data() + i, 8);
    hash = mix(hash ^ word);
  }
  if (i < bytes.size()) {
    std::uint64_t word = 0;
    std::memcpy(&word, bytes.data() + i, bytes.size() - i);
    hash = mix(hash ^ word);
  }
  return hash;
}

void Vocabulary::grow() {
  std::vector<Slot> old = std::move(slots_);
  slots_.assign(old.empty() ? 1024 : old.size() * 2, {});
  const std::size_t mask = slots_.size() - 1;
  for (const Slot& slot : old) {
    if (slot.id_plus_one == 0) continue;
    std::size_t at = hash_bytes(view(slot)) & mask;
    while (slots_[at].id_plus_one != 0) at = (at + 1) & mask;
    slots_[at] = slot;
  }
}

Status Vocabulary::add(std::string_view text, std::int64_t id) {
  if (id < 0 || id > kMaxId)
    return fail(Code::kCorrupt, "token '{}': id {}, wanted 0 to {}", text, id, kMaxId);
  if (arena_.size() + text.size() >= kAbsent)
    return fail(Code::kCorrupt, "the token strings exceed {} bytes", kAbsent);
  const auto index = static_cast<std::size_t>(id);
  if (index < entries_.size() && entries_[index].offset != kAbsent) {
    return fail(Code::kCorrupt, "id {} belongs to '{}' and to '{}'", id, view(entries_[index]),
                text);
  }
  if (slots_.size() < 2 * (n_used_ + 1)) grow();
  const std::uint64_t hash = hash_bytes(text);
  const std::size_t mask = slots_.size() - 1;
  std::size_t at = hash & mask;
  for (std::size_t n_probes = 0; slots_[at].id_plus_one != 0; at = (at + 1) & mask) {
    if (slots_[at].tag == hash >> 32 && view(slots_[at]) == text) {
      return fail(Code::kCorrupt, "token '{}' appears twice", text);
    }
    if (++n_probes == kMaxProbes)
      return fail(Code::kCorrupt, "token '{}': too many strings with one hash", text);
  }
  if (index >= entries_.size()) entries_.resize(index + 1);
  entries_[index] = {static_cast<std::uint32_t>(arena_.size()),
                     static_cast<std::uint32_t>(text.size())};
  arena_ += text;
  slots_[at] = {static_cast<std::uint32_t>(index + 1), static_cast<std::uint32_t>(hash >> 32),
                entries_[index].offset, entries_[index].n_bytes};
  ++n_used_;
  return {};
}

std::uint64_t Vocabulary::hash_of(std::string_view text) {
  return hash_bytes(text);
}

std::optional<TokenId> Vocabulary::find(std::string_view text, std::uint64_t hash) const {
  if (slots_.empty()) return std::nullopt;
  const std::size_t mask = slots_.size() - 1;
  for (std::size_t at = hash & mask; slots_[at].id_plus_one != 0; at = (at + 1) & mask) {
    if (slots_[at].tag == hash >> 32 && view(slots_[at]) == text) {
      return static_cast<TokenId>(slots_[at].id_plus_one - 1);
    }
  }
  return std::nullopt;
}

std::optional<std::string_view> Vocabulary::text(TokenId id) const {
  const auto index = static_cast<std::size_t>(value_of(id));
  if (value_of(id) < 0 || index >= entries_.size() || entries_[index].offset == kAbsent)
    return std::nullopt;
  return view(entries_[index]);
}

}  // namespace gem8
