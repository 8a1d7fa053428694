#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "formats/model_config.h"
#include "formats/safetensors.h"
#include "formats/shard_index.h"
#include "foundation/result.h"

namespace gem8 {

/// A tensor of a checkpoint and the shard that holds it.
/// What may stand before "layers." and "embed_tokens.", the likeliest first: Google and
/// save_pretrained; the text-only class; MLX conversions; other loaders' saves.
inline constexpr std::array<std::string_view, 5> kTextPrefixes = {
    "model.language_model.", "model.", "language_model.model.", "language_model.", ""};

/// Where a head that is not tied may be stored.
inline constexpr std::array<std::string_view, 2> kHeadNames = {"lm_head.weight",
                                                               "language_model.lm_head.weight"};

struct CheckpointTensor {
  const TensorInfo* info = nullptr;
  std::size_t shard = 0;  ///< position in Checkpoint::shard_names()
};

/// A checkpoint folder: its configuration and every tensor, mapped, nothing copied. Move-only;
/// views of its tensors live as long as it does.
class Checkpoint {
 public:
  /// Errors: those of read_model_config(), read_shard_index() and SafetensorsFile::open(); kCorrupt
  /// when index and shards disagree: a listed tensor in no or another shard, a tensor in two shards
  /// or in a shard but not in the index, a listed file that is missing (kNotFound).
  static Result<Checkpoint> open(const std::filesystem::path& dir);

  /// A checkpoint that is in no folder: tensors whose bytes `memory` keeps alive. For measurements
  /// on synthetic weights. Error: kCorrupt for two tensors of one name.
  static Result<Checkpoint> from_tensors(ModelConfig config, std::vector<TensorInfo> tensors,
                                         std::shared_ptr<const void> memory);

  const std::filesystem::path& dir() const { return dir_; }
  const ModelConfig& config() const { return config_; }
  std::span<const std::string> shard_names() const { return shard_names_; }

  /// All tensors by name.
  std::span<const CheckpointTensor> tensors() const { return tensors_; }
  const TensorInfo* find(std::string_view name) const;  ///< nullptr when there is none

  /// Text tensors by their canonical name, whatever prefix the file uses: "embed_tokens.weight",
  /// "layers.3.self_attn.q_proj.weight", "norm.weight". Also "lm_head.weight", which stands outside
  /// the prefix. Expert names match with and without ".moe": canonical is
  /// "layers.3.experts.7.down_proj.weight".
  const TensorInfo* find_text(std::string_view canonical) const;
  /// What stands before "layers." and "embed_tokens." in this checkpoint, with its dot:
  /// "model.language_model.".
  const std::string& text_prefix() const { return text_prefix_; }
  /// The canonical name of a stored text tensor (".moe.experts" becomes ".experts"); nullopt for
  /// tensors that are not the text decoder's.
  std::optional<std::string> canonical_text_name(std::string_view stored) const;

  /// Image tower and connector: "vision_tower.encoder.layers.0...",
  /// "embed_vision.embedding_projection.weight".
  const TensorInfo* find_multimodal(std::string_view canonical) const;
  bool stores_vision() const;  ///< any tensor of image tower or connector

  std::uint64_t tensor_bytes() const { return tensor_bytes_; }  ///< sum over all tensors

  /// The error with the folder's name before it; as it is for a checkpoint in memory.
  std::unexpected<Error> refuse(Error error) const;
  /// kCorrupt when this layer of the text decoder stores experts: a config that knows of none would
  /// leave them out in silence.
  Status check_no_experts(int layer) const;

  /// Gives the memory that mapped bytes take back to the system (see MappedFile::release()): for
  /// those who read a checkpoint larger than memory once. `bytes`: of a tensor, or a part of one.
  void release(std::span<const std::byte> bytes) const;
  /// The same for all tensors.
  void release() const;

 private:
  Status collect_tensors();
  Status sort_tensors();
  Status check_index(const ShardIndex& index) const;
  void choose_prefixes();

  std::filesystem::path dir_;
  ModelConfig config_;
  std::vector<std::string> shard_names_;
  std::vector<SafetensorsFile> shards_;
  std::vector<TensorInfo> own_tensors_;  ///< of from_tensors()
  std::shared_ptr<const void> memory_;   ///< that they lie in
  std::vector<CheckpointTensor> tensors_;
  std::string text_prefix_;
  std::string multimodal_prefix_;
  std::uint64_t tensor_bytes_ = 0;
};

}  // namespace gem8
