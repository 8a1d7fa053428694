#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "foundation/result.h"

namespace gem8 {

inline constexpr std::string_view kIndexFileName = "model.safetensors.index.json";
inline constexpr std::string_view kSingleFileName = "model.safetensors";

/// Which file of a checkpoint folder holds which tensor.
struct ShardIndex {
  std::optional<std::uint64_t> total_size;        ///< bytes of all tensors, as the index claims
  std::map<std::string, std::string> weight_map;  ///< tensor -> file name, without any folder

  std::vector<std::string> files() const;  ///< distinct, sorted
};

/// "model-00002-of-00005.safetensors"; `shard` counts from 1.
std::string shard_file_name(std::size_t shard, std::size_t n_shards);

/// Errors: kCorrupt for malformed JSON, mistyped members, or a file name that leaves the folder
/// (any separator, "..", empty).
Result<ShardIndex> parse_shard_index(std::string_view text);
/// The index file's text, as save_pretrained lays it out.
std::string to_text(const ShardIndex& index);

/// Reads DIR/model.safetensors.index.json. nullopt when the folder has a lone model.safetensors
/// instead. Errors: kNotFound when it has neither; otherwise parse_shard_index()'s.
Result<std::optional<ShardIndex>> read_shard_index(const std::filesystem::path& dir);
Status write_shard_index(const std::filesystem::path& dir, const ShardIndex& index);

}  // namespace gem8
