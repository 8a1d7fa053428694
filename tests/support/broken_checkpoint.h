#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "foundation/json/json.h"

namespace gem8::testing {

/// A checkpoint folder in memory, editable beyond what is valid: the recipes of
/// tests/golden/quant/broken.json are lists of the edits below. Edits run in the order given; those
/// that damage bytes of a file run last.
class BrokenCheckpoint {
 public:
  struct Tensor {
    std::string dtype;
    std::vector<std::int64_t> shape;
    std::string bytes;
  };
  using Shard = std::map<std::string, Tensor>;

  /// Reads a sound folder. Throws std::runtime_error when it is not.
  explicit BrokenCheckpoint(const std::filesystem::path& folder);

  /// One edit: {"op": name, ...}. Throws std::runtime_error for an operation nobody knows.
  void apply(const Json& edit);

  /// Writes the folder, the index following the shards unless an edit froze it.
  void write(const std::filesystem::path& folder) const;

  Json config;

 private:
  using Blobs = std::map<std::string, std::string>;

  std::vector<std::string> match(const std::string& pattern) const;
  Shard& shard_of(const std::string& name);
  Tensor& at(const std::string& name) { return shard_of(name).at(name); }
  void put(const std::string& name, Tensor tensor, const std::string& beside = {});
  void erase(const std::string& pattern);
  void freeze();
  bool apply_to_tensors(const std::string& op, const Json& edit);
  bool apply_to_values(const std::string& op, const Json& edit);
  bool apply_to_config(const std::string& op, const Json& edit);
  bool apply_to_index(const std::string& op, const Json& edit);
  bool apply_to_files(const std::string& op, const Json& edit);
  void fuse_experts(std::int64_t layer, const std::string& scales);
  Json index_of_shards() const;

  std::map<std::string, Shard> shards_;
  std::map<std::string, std::string> files_;
  Json index_;
  bool index_frozen_ = false;
  std::vector<std::function<void(Blobs&)>> after_;
};

}  // namespace gem8::testing
