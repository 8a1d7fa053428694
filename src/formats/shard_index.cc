#include "formats/shard_index.h"

#include <fmt/format.h>

#include <algorithm>

#include "foundation/json/json.h"
#include "foundation/mapped_file.h"
#include "foundation/output_file.h"

namespace gem8 {
namespace {

bool is_plain_file_name(std::string_view name) {
  return !name.empty() && name != "." && name != ".." &&
         name.find_first_of(std::string_view("/\\\0", 3)) == std::string_view::npos;
}

}  // namespace

std::vector<std::string> ShardIndex::files() const {
  std::vector<std::string> names;
  for (const auto& [tensor, file] : weight_map) {
    if (names.empty() || names.back() != file) names.push_back(file);
  }
  std::ranges::sort(names);
  const auto repeated = std::ranges::unique(names);
  names.erase(repeated.begin(), repeated.end());
  return names;
}

std::string shard_file_name(std::size_t shard, std::size_t n_shards) {
  return fmt::format("model-{:05}-of-{:05}.safetensors", shard, n_shards);
}

Result<ShardIndex> parse_shard_index(std::string_view text) {
  GEM8_TRY(const Json root, parse_json(text));
  if (!root.is_object())
    return fail(Code::kCorrupt, "index is {}, wanted an object", root.kind_name());
  ShardIndex index;
  if (const Json* metadata = root.find("metadata"); metadata != nullptr && !metadata->is_null()) {
    if (!metadata->is_object()) {
      return fail(Code::kCorrupt, "'metadata' is {}, wanted an object", metadata->kind_name());
    }
    if (const Json* total = metadata->find("total_size"); total != nullptr && !total->is_null()) {
      // Some writers store it as 123.0: read what is an integer in value.
      const bool whole =
          total->is_double() && total->as_double() >= 0 && total->as_double() < 9e15 &&
          total->as_double() == static_cast<double>(static_cast<std::int64_t>(total->as_double()));
      if (!(total->is_int() && total->as_int() >= 0) && !whole) {
        return fail(Code::kCorrupt, "'metadata.total_size' is {}, wanted a count of bytes",
                    to_text(*total).substr(0, 60));
      }
      index.total_size = total->is_int() ? static_cast<std::uint64_t>(total->as_int())
                                         : static_cast<std::uint64_t>(total->as_double());
    }
  }
  const Json* map = root.find("weight_map");
  if (map == nullptr || !map->is_object()) {
    return fail(Code::kCorrupt, "'weight_map' is {}, wanted an object from tensor to file",
                map == nullptr ? "missing" : map->kind_name());
  }
  for (const JsonMember& member : map->as_object()) {
    if (!member.value.is_string()) {
      return fail(Code::kCorrupt, "'weight_map' of tensor '{}' is {}, wanted a file name",
                  member.key, member.value.kind_name());
    }
    const std::string& file = member.value.as_string();
    if (!is_plain_file_name(file)) {
      return fail(Code::kCorrupt,
                  "'weight_map' of tensor '{}': '{}' is not the name of a file in this folder",
                  member.key, file);
    }
    index.weight_map.emplace(member.key, file);
  }
  if (index.weight_map.empty()) return fail(Code::kCorrupt, "'weight_map' names no tensor");
  return index;
}

std::string to_text(const ShardIndex& index) {
  Json::Object map;
  for (const auto& [tensor, file] : index.weight_map) map.push_back({tensor, Json(file)});
  Json root;
  Json metadata(Json::Object{});
  if (index.total_size) metadata.set("total_size", Json(*index.total_size));
  root.set("metadata", std::move(metadata));
  root.set("weight_map", Json(std::move(map)));
  return to_text(root, {.indent = 2}) + "\n";
}

Result<std::optional<ShardIndex>> read_shard_index(const std::filesystem::path& dir) {
  const std::filesystem::path path = dir / kIndexFileName;
  Result<std::string> text = read_text_file(path);
  if (!text) {
    if (text.error().code != Code::kNotFound) return std::unexpected(text.error());
    std::error_code ignored;
    if (std::filesystem::exists(dir / kSingleFileName, ignored)) return std::optional<ShardIndex>();
    return std::unexpected(Error{
        Code::kNotFound, fmt::format("neither {} nor {} is there", kIndexFileName, kSingleFileName),
        dir.string()});
  }
  Result<ShardIndex> index = parse_shard_index(*text);
  if (!index) return fail_in(path.string(), std::move(index).error());
  return std::optional<ShardIndex>(std::move(*index));
}

Status write_shard_index(const std::filesystem::path& dir, const ShardIndex& index) {
  return write_file_atomically(dir / kIndexFileName, std::string_view(to_text(index)));
}

}  // namespace gem8
