#include "tests/support/broken_checkpoint.h"

#include <fnmatch.h>

#include <algorithm>
#include <fstream>
#include <sstream>

#include "tests/support/broken_checkpoint_parts.h"

namespace gem8::testing {

namespace {

namespace fs = std::filesystem;
using Tensor = BrokenCheckpoint::Tensor;

constexpr std::string_view kIndex = "model.safetensors.index.json";

std::string read_all(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) refuse("cannot read " + path.string());
  std::stringstream text;
  text << file.rdbuf();
  return std::move(text).str();
}

Json shape_json(const std::vector<std::int64_t>& shape) {
  Json list = Json::array();
  for (const std::int64_t side : shape) list.push_back(side);
  return list;
}

std::string serialise(const BrokenCheckpoint::Shard& shard) {
  std::vector<const std::string*> order;
  for (const auto& [name, tensor] : shard) order.push_back(&name);
  std::ranges::stable_sort(order, [&](const std::string* a, const std::string* b) {
    const std::size_t size_a = size_of(shard.at(*a).dtype), size_b = size_of(shard.at(*b).dtype);
    return size_a != size_b ? size_a > size_b : *a < *b;
  });
  Json header = Json::object({{"__metadata__", Json::object({{"format", "pt"}})}});
  std::string data;
  for (const std::string* const name : order) {
    const Tensor& tensor = shard.at(*name);
    Json offsets = Json::array();
    offsets.push_back(data.size());
    offsets.push_back(data.size() + tensor.bytes.size());
    header.as_object().push_back({*name, Json::object({{"dtype", tensor.dtype},
                                                       {"shape", shape_json(tensor.shape)},
                                                       {"data_offsets", std::move(offsets)}})});
    data += tensor.bytes;
  }
  return container(to_text(header), data);
}

}  // namespace

BrokenCheckpoint::BrokenCheckpoint(const fs::path& folder) {
  for (const auto& entry : fs::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    const std::string data = read_all(entry.path());
    if (name == "config.json") {
      config = parse(data);
    } else if (name == kIndex) {
      index_ = parse(data);
    } else if (!name.ends_with(".safetensors")) {
      files_[name] = data;
    } else {
      const Parsed parsed = split(data);
      for (const JsonMember& member : parsed.header.as_object()) {
        if (member.key == "__metadata__") continue;
        Tensor tensor{.dtype = member.value.find("dtype")->as_string()};
        for (const Json& side : member.value.find("shape")->as_array())
          tensor.shape.push_back(side.as_int());
        const auto& offsets = member.value.find("data_offsets")->as_array();
        const auto begin = static_cast<std::size_t>(offsets[0].as_int());
        tensor.bytes =
            parsed.data.substr(begin, static_cast<std::size_t>(offsets[1].as_int()) - begin);
        shards_[name][member.key] = std::move(tensor);
      }
    }
  }
}

void BrokenCheckpoint::apply(const Json& edit) {
  const std::string op = string_at(edit, "op");
  if (apply_to_tensors(op, edit) || apply_to_values(op, edit) || apply_to_config(op, edit) ||
      apply_to_index(op, edit) || apply_to_files(op, edit)) {
    return;
  }
  refuse("unknown edit: " + op);
}

Json BrokenCheckpoint::index_of_shards() const {
  std::int64_t total = 0;
  Json map = Json::object();
  for (const auto& [file, shard] : shards_) {
    for (const auto& [name, tensor] : shard) {
      total += static_cast<std::int64_t>(tensor.bytes.size());
      map.as_object().push_back({name, file});
    }
  }
  return Json::object(
      {{"metadata", Json::object({{"total_size", total}})}, {"weight_map", std::move(map)}});
}

void BrokenCheckpoint::write(const fs::path& folder) const {
  Blobs blobs;
  for (const auto& [file, shard] : shards_) blobs[file] = serialise(shard);
  for (const auto& [file, data] : files_) blobs[file] = data;
  blobs["config.json"] = to_text(config, {.indent = 1}) + "\n";
  blobs[std::string(kIndex)] =
      to_text(index_frozen_ ? index_ : index_of_shards(), {.indent = 1}) + "\n";
  for (const auto& edit : after_) edit(blobs);
  fs::create_directories(folder);
  for (const auto& [file, data] : blobs) {
    std::ofstream(folder / file, std::ios::binary) << data;
  }
}

std::vector<std::string> BrokenCheckpoint::match(const std::string& pattern) const {
  std::vector<std::string> names;
  for (const auto& [file, shard] : shards_) {
    for (const auto& [name, tensor] : shard) {
      if (fnmatch(pattern.c_str(), name.c_str(), 0) == 0) names.push_back(name);
    }
  }
  if (names.empty()) refuse("no tensor matches " + pattern);
  return names;
}

BrokenCheckpoint::Shard& BrokenCheckpoint::shard_of(const std::string& name) {
  for (auto& [file, shard] : shards_) {
    if (shard.contains(name)) return shard;
  }
  refuse("no tensor " + name);
}

void BrokenCheckpoint::put(const std::string& name, Tensor tensor, const std::string& beside) {
  Shard& shard = beside.empty() ? shards_.rbegin()->second : shard_of(beside);
  shard[name] = std::move(tensor);
}

void BrokenCheckpoint::erase(const std::string& pattern) {
  for (const std::string& name : match(pattern)) shard_of(name).erase(name);
}

void BrokenCheckpoint::freeze() {
  if (!index_frozen_) index_ = index_of_shards();
  index_frozen_ = true;
}

}  // namespace gem8::testing
