#include "quantize/verify/loader_names.h"

#include <fmt/format.h>
#include <fnmatch.h>
#include <re2/re2.h>

#include <algorithm>

namespace gem8::verify {

namespace {

/// The engine's prefixes, tried in turn.
std::string mapped(std::string name) {
  static constexpr std::pair<std::string_view, std::string_view> kPrefixes[] = {
      {"model.vision_tower", "vision_tower"},
      {"model.embed_vision", "embed_vision"},
      {"model.audio_tower.", "audio_tower."},
      {"model.embed_audio.", "embed_audio."},
      {"model.language_model.", "language_model.model."},
      {"lm_head.", "language_model.lm_head."},
      {"model", "language_model.model"},
  };
  for (const auto& [from, to] : kPrefixes) {
    if (name.starts_with(from)) name = std::string(to) + name.substr(from.size());
  }
  return name;
}

bool anchored_match(std::string_view pattern, std::string_view text) {
  RE2::Options options;
  options.set_log_errors(false);
  const RE2 expression(re2::StringPiece(pattern.data(), pattern.size()), options);
  return expression.ok() && expression.Match(re2::StringPiece(text.data(), text.size()), 0,
                                             text.size(), RE2::ANCHOR_START, nullptr, 0);
}

}  // namespace

LoaderNames::LoaderNames(const Subject& subject) : format_(subject.quantization.format) {
  text_only_ = subject.text_prefix.find("language_model.") == std::string::npos;
  layers_ = text_only_ ? "model.layers." : "language_model.model.layers.";
  for (const std::string& entry : subject.quantization.ignored) {
    const bool regex = entry.starts_with("re:");
    has_regex_ |= regex;
    const bool kept = format_ == Quantization::Format::kCompressedTensors &&
                      (regex || entry.find('.') == std::string::npos);
    entries_.push_back(kept || text_only_ ? entry : mapped(entry));
  }
}

std::string LoaderNames::path(std::string_view stored_name) const {
  return text_only_ ? std::string(stored_name) : mapped(std::string(stored_name));
}

bool LoaderNames::matches(std::string_view path) const {
  return std::ranges::any_of(entries_, [&](const std::string& entry) {
    if (entry == path) return true;
    if (format_ == Quantization::Format::kCompressedTensors && entry.starts_with("re:")) {
      return anchored_match(std::string_view(entry).substr(3), path);
    }
    if (format_ == Quantization::Format::kModelOpt) {
      return path.find(entry) != std::string_view::npos ||
             fnmatch(entry.c_str(), std::string(path).c_str(), 0) == 0;
    }
    return false;
  });
}

Skipped LoaderNames::fused(const std::string& whole, const std::vector<std::string>& shards) const {
  if (shards.size() > 1 && matches(whole)) return Skipped::kYes;
  const auto listed =
      std::ranges::count_if(shards, [&](const std::string& shard) { return matches(shard); });
  if (listed == 0) return Skipped::kNo;
  return static_cast<std::size_t>(listed) == shards.size() ? Skipped::kYes : Skipped::kSome;
}

Skipped LoaderNames::dense(std::int32_t layer, std::string_view part,
                           const std::vector<std::string_view>& projections) const {
  const std::string base = fmt::format("{}{}.{}.", layers_, layer, part);
  std::vector<std::string> shards;
  for (const std::string_view projection : projections)
    shards.push_back(base + std::string(projection));
  return fused(base + (part == "self_attn" ? "qkv_proj" : "gate_up_proj"), shards);
}

Skipped LoaderNames::experts(std::int32_t layer) const {
  const std::string base = fmt::format("{}{}.experts", layers_, layer);
  if (format_ == Quantization::Format::kFp8) {
    // Format A looks for the path inside the entries, so one listed expert takes its whole layer
    // along.
    const bool skipped = std::ranges::any_of(entries_, [&](const std::string& entry) {
      const auto at = entry.find(base);
      return at != std::string::npos &&
             (at + base.size() == entry.size() || entry[at + base.size()] == '.');
    });
    return skipped ? Skipped::kYes : Skipped::kNo;
  }
  if (matches(base)) return Skipped::kYes;
  std::vector<std::string> shards;
  for (const std::string_view projection : {"gate_proj", "up_proj", "down_proj"}) {
    shards.push_back(fmt::format("{}.0.{}", base, projection));
  }
  return fused(base, shards);
}

bool LoaderNames::lists(std::string_view stored_name) const {
  return matches(path(stored_name));
}

}  // namespace gem8::verify
