#include "formats/checkpoint.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

namespace gem8 {
namespace {

constexpr std::array<std::string_view, 2> kMultimodalPrefixes = {"model.", ""};
constexpr std::array<std::string_view, 4> kMultimodalRoots = {"vision_tower.", "embed_vision.",
                                                              "audio_tower.", "embed_audio."};
/// First words of a canonical text name: what tells a text tensor from a tower's when the prefix is
/// short.
constexpr std::array<std::string_view, 6> kTextRoots = {"layers.",
                                                        "embed_tokens.",
                                                        "norm.",
                                                        "embed_tokens_per_layer.",
                                                        "per_layer_model_projection.",
                                                        "per_layer_projection_norm."};

bool starts_with_any(std::string_view name, std::span<const std::string_view> roots) {
  return std::ranges::any_of(roots, [&](std::string_view root) { return name.starts_with(root); });
}

/// In "layers.3.moe.experts.7.x" the level ".moe", which some exports have.
std::optional<std::string> without_moe(std::string_view name) {
  const std::size_t at = name.find(".moe.experts.");
  if (at == std::string_view::npos) return std::nullopt;
  return std::string(name.substr(0, at)) + std::string(name.substr(at + 4));
}
std::optional<std::string> with_moe(std::string_view name) {
  const std::size_t at = name.find(".experts.");
  if (at == std::string_view::npos) return std::nullopt;
  return std::string(name.substr(0, at)) + ".moe" + std::string(name.substr(at));
}

}  // namespace

Result<Checkpoint> Checkpoint::open(const std::filesystem::path& dir) {
  Checkpoint checkpoint;
  checkpoint.dir_ = dir;
  GEM8_TRY(checkpoint.config_, read_model_config(dir));
  GEM8_TRY(const std::optional<ShardIndex> index, read_shard_index(dir));
  checkpoint.shard_names_ =
      index ? index->files() : std::vector<std::string>{std::string(kSingleFileName)};
  for (const std::string& name : checkpoint.shard_names_) {
    Result<SafetensorsFile> shard = SafetensorsFile::open(dir / name);
    if (!shard && shard.error().code == Code::kNotFound && index) {
      return fail(Code::kNotFound, "{}: shard '{}' is listed in {} but is not there", dir.string(),
                  name, kIndexFileName);
    }
    if (!shard) return std::unexpected(std::move(shard).error());
    checkpoint.shards_.push_back(std::move(*shard));
  }
  GEM8_RETURN_IF_ERROR(checkpoint.collect_tensors());
  if (index) GEM8_RETURN_IF_ERROR(checkpoint.check_index(*index));
  checkpoint.choose_prefixes();
  return checkpoint;
}

Result<Checkpoint> Checkpoint::from_tensors(ModelConfig config, std::vector<TensorInfo> tensors,
                                            std::shared_ptr<const void> memory) {
  Checkpoint checkpoint;
  checkpoint.config_ = std::move(config);
  checkpoint.own_tensors_ = std::move(tensors);
  checkpoint.memory_ = std::move(memory);
  checkpoint.shard_names_ = {"memory"};
  for (const TensorInfo& info : checkpoint.own_tensors_) {
    checkpoint.tensors_.push_back({&info, 0});
    checkpoint.tensor_bytes_ += info.bytes.size();
  }
  GEM8_RETURN_IF_ERROR(checkpoint.sort_tensors());
  checkpoint.choose_prefixes();
  return checkpoint;
}

Status Checkpoint::collect_tensors() {
  for (std::size_t shard = 0; shard < shards_.size(); ++shard) {
    for (const TensorInfo& info : shards_[shard].tensors()) {
      tensors_.push_back({&info, shard});
      tensor_bytes_ += info.bytes.size();
    }
  }
  return sort_tensors();
}

Status Checkpoint::sort_tensors() {
  std::ranges::sort(tensors_, [](const CheckpointTensor& a, const CheckpointTensor& b) {
    return a.info->name < b.info->name;
  });
  const auto twice = std::ranges::adjacent_find(
      tensors_, [](const CheckpointTensor& a, const CheckpointTensor& b) {
        return a.info->name == b.info->name;
      });
  if (twice != tensors_.end()) {
    return fail(Code::kCorrupt, "{}: tensor '{}' is in two shards: {} and {}", dir_.string(),
                twice->info->name, shard_names_[twice->shard], shard_names_[(twice + 1)->shard]);
  }
  return {};
}

Status Checkpoint::check_index(const ShardIndex& index) const {
  for (const CheckpointTensor& tensor : tensors_) {
    const auto listed = index.weight_map.find(tensor.info->name);
    if (listed == index.weight_map.end()) {
      return fail(Code::kCorrupt, "{}: tensor '{}' of shard {} is not in {}", dir_.string(),
                  tensor.info->name, shard_names_[tensor.shard], kIndexFileName);
    }
    if (listed->second != shard_names_[tensor.shard]) {
      return fail(Code::kCorrupt, "{}: tensor '{}' is in shard {}, but {} says {}", dir_.string(),
                  tensor.info->name, shard_names_[tensor.shard], kIndexFileName, listed->second);
    }
  }
  if (index.weight_map.size() == tensors_.size()) return {};
  for (const auto& [name, file] : index.weight_map) {
    if (find(name) == nullptr) {
      return fail(Code::kCorrupt, "{}: tensor '{}' is listed in {}, but shard {} does not hold it",
                  dir_.string(), name, kIndexFileName, file);
    }
  }
  return {};
}

void Checkpoint::choose_prefixes() {
  text_prefix_ = kTextPrefixes.front();
  for (const std::string_view prefix : kTextPrefixes) {
    if (find(std::string(prefix) + "embed_tokens.weight") != nullptr) {
      text_prefix_ = prefix;
      break;
    }
  }
  multimodal_prefix_ = kMultimodalPrefixes.front();
  for (const std::string_view prefix : kMultimodalPrefixes) {
    if (std::ranges::any_of(kMultimodalRoots, [&](std::string_view root) {
          const std::string start = std::string(prefix) + std::string(root);
          const auto at = std::ranges::lower_bound(
              tensors_, std::string_view(start), {},
              [](const CheckpointTensor& t) { return std::string_view(t.info->name); });
          return at != tensors_.end() && at->info->name.starts_with(start);
        })) {
      multimodal_prefix_ = prefix;
      break;
    }
  }
}

const TensorInfo* Checkpoint::find(std::string_view name) const {
  const auto found = std::ranges::lower_bound(
      tensors_, name, {},
      [](const CheckpointTensor& tensor) { return std::string_view(tensor.info->name); });
  return found != tensors_.end() && found->info->name == name ? found->info : nullptr;
}

const TensorInfo* Checkpoint::find_text(std::string_view canonical) const {
  if (canonical == kHeadNames.front()) {
    for (const std::string_view name : kHeadNames) {
      if (const TensorInfo* head = find(name)) return head;
    }
    return nullptr;
  }
  if (const TensorInfo* info = find(text_prefix_ + std::string(canonical))) return info;
  const std::optional<std::string> alternative = with_moe(canonical);
  return alternative ? find(text_prefix_ + *alternative) : nullptr;
}

std::optional<std::string> Checkpoint::canonical_text_name(std::string_view stored) const {
  if (std::ranges::find(kHeadNames, stored) != kHeadNames.end())
    return std::string(kHeadNames.front());
  if (!stored.starts_with(text_prefix_)) return std::nullopt;
  const std::string_view name = stored.substr(text_prefix_.size());
  if (!starts_with_any(name, kTextRoots)) return std::nullopt;
  if (std::optional<std::string> shorter = without_moe(name)) return shorter;
  return std::string(name);
}

std::unexpected<Error> Checkpoint::refuse(Error error) const {
  if (dir_.empty()) return std::unexpected(std::move(error));
  return fail_in(dir_.string(), std::move(error));
}

Status Checkpoint::check_no_experts(int layer) const {
  const TensorInfo* const router = find_text(fmt::format("layers.{}.router.proj.weight", layer));
  if (router == nullptr) return {};
  return fail(Code::kCorrupt,
              "tensor '{}' is stored, but config.json's text_config has 'enable_moe_block' off",
              router->name);
}

void Checkpoint::release(std::span<const std::byte> bytes) const {
  for (const SafetensorsFile& shard : shards_) shard.file().release(bytes);
}

void Checkpoint::release() const {
  for (const SafetensorsFile& shard : shards_) shard.file().release(shard.file().bytes());
}

const TensorInfo* Checkpoint::find_multimodal(std::string_view canonical) const {
  return find(multimodal_prefix_ + std::string(canonical));
}

bool Checkpoint::stores_vision() const {
  const std::string tower = multimodal_prefix_ + "vision_tower.";
  const std::string connector = multimodal_prefix_ + "embed_vision.";
  return std::ranges::any_of(tensors_, [&](const CheckpointTensor& tensor) {
    return tensor.info->name.starts_with(tower) || tensor.info->name.starts_with(connector);
  });
}

}  // namespace gem8
