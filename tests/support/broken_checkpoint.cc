#include "tests/support/broken_checkpoint.h"

#include <fmt/format.h>
#include <fnmatch.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <fstream>
#include <limits>
#include <sstream>
#include <stdexcept>

#include "foundation/dtype.h"
#include "foundation/fp8.h"

namespace gem8::testing {

namespace {

namespace fs = std::filesystem;
using Tensor = BrokenCheckpoint::Tensor;
using Floats = std::vector<float>;

constexpr std::string_view kIndex = "model.safetensors.index.json";

[[noreturn]] void refuse(const std::string& message) {
  throw std::runtime_error(message);
}

std::string read_all(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) refuse("cannot read " + path.string());
  std::stringstream text;
  text << file.rdbuf();
  return std::move(text).str();
}

Json parse(const std::string& text) {
  auto value = parse_json(text);
  if (!value) refuse(value.error().text());
  return std::move(*value);
}

std::string string_at(const Json& edit, std::string_view key) {
  const Json* const value = edit.find(key);
  if (value == nullptr || !value->is_string()) refuse(fmt::format("edit lacks '{}'", key));
  return value->as_string();
}

std::int64_t int_at(const Json& edit, std::string_view key, std::int64_t fallback = 0) {
  const Json* const value = edit.find(key);
  return value == nullptr ? fallback : value->as_int();
}

bool bool_at(const Json& edit, std::string_view key, bool fallback) {
  const Json* const value = edit.find(key);
  return value == nullptr ? fallback : value->as_bool();
}

/// Numbers, and the ones JSON has no words for.
float float_at(const Json& edit, std::string_view key) {
  const Json* const value = edit.find(key);
  if (value == nullptr) refuse(fmt::format("edit lacks '{}'", key));
  if (value->is_number()) return static_cast<float>(value->as_double());
  const std::string& word = value->as_string();
  if (word == "nan") return std::numeric_limits<float>::quiet_NaN();
  if (word == "inf") return std::numeric_limits<float>::infinity();
  if (word == "-inf") return -std::numeric_limits<float>::infinity();
  if (word == "lowest") return std::numeric_limits<float>::lowest();
  refuse("no number: " + word);
}

std::size_t size_of(const std::string& dtype) {
  if (dtype == "F8") return 1;
  const auto known = dtype_from_name(dtype);
  return known ? dtype_bytes(*known) : 1;
}

Floats to_floats(const Tensor& tensor) {
  const std::size_t size = size_of(tensor.dtype);
  Floats values(tensor.bytes.size() / size);
  for (std::size_t i = 0; i < values.size(); ++i) {
    const char* const from = tensor.bytes.data() + i * size;
    if (tensor.dtype == "F8_E4M3") {
      values[i] = e4m3_decode(static_cast<std::uint8_t>(*from));
    } else if (tensor.dtype == "BF16") {
      std::uint16_t bits = 0;
      std::memcpy(&bits, from, 2);
      values[i] = static_cast<float>(BF16::from_bits(bits));
    } else if (tensor.dtype == "F32") {
      std::memcpy(&values[i], from, 4);
    } else {
      refuse("no values of " + tensor.dtype);
    }
  }
  return values;
}

std::string to_bytes(const std::string& dtype, const Floats& values) {
  std::string bytes(values.size() * size_of(dtype), '\0');
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (dtype == "F8_E4M3") {
      bytes[i] = static_cast<char>(e4m3_encode(values[i]));
    } else if (dtype == "BF16") {
      const std::uint16_t bits = BF16(values[i]).bits;
      std::memcpy(bytes.data() + 2 * i, &bits, 2);
    } else if (dtype == "F32") {
      std::memcpy(bytes.data() + 4 * i, &values[i], 4);
    } else {
      refuse("cannot write " + dtype);
    }
  }
  return bytes;
}

Floats repeated(float value, std::size_t n) {
  return Floats(n, value);
}

std::string replaced(const std::string& text, const std::string& from, const std::string& to) {
  std::string result = text;
  for (std::size_t at = result.find(from); at != std::string::npos;
       at = result.find(from, at + to.size())) {
    result.replace(at, from.size(), to);
  }
  return result;
}

std::string without_suffix(const std::string& name, std::string_view suffix) {
  return name.ends_with(suffix) ? name.substr(0, name.size() - suffix.size()) : name;
}

Json shape_json(const std::vector<std::int64_t>& shape) {
  Json list = Json::array();
  for (const std::int64_t side : shape) list.push_back(side);
  return list;
}

std::string length_prefix(std::uint64_t length) {
  std::string bytes(8, '\0');
  std::memcpy(bytes.data(), &length, 8);
  return bytes;
}

/// A safetensors file of a header's text and its data.
std::string container(std::string header, const std::string& data) {
  header.append((8 - (header.size() + 8) % 8) % 8, ' ');
  return length_prefix(header.size()) + header + data;
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

struct Parsed {
  Json header;
  std::string data;
};

Parsed split(const std::string& blob) {
  std::uint64_t length = 0;
  std::memcpy(&length, blob.data(), 8);
  return {parse(blob.substr(8, length)), blob.substr(8 + length)};
}

Json::Array& offsets_of(Json& header, const std::string& tensor) {
  return header.find(tensor)->find("data_offsets")->as_array();
}

/// The container that holds an object's member by a dotted path, and the last key.
std::pair<Json*, std::string> at_path(Json& root, const std::string& path) {
  Json* object = &root;
  std::size_t begin = 0;
  for (std::size_t dot = path.find('.'); dot != std::string::npos; dot = path.find('.', begin)) {
    object = object->find(path.substr(begin, dot - begin));
    if (object == nullptr) refuse("no config entry " + path);
    begin = dot + 1;
  }
  return {object, path.substr(begin)};
}

void remove_member(Json& object, const std::string& key) {
  std::erase_if(object.as_object(), [&](const JsonMember& member) { return member.key == key; });
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

bool BrokenCheckpoint::apply_to_tensors(const std::string& op, const Json& edit) {
  if (op == "delete") {
    erase(string_at(edit, "tensor"));
  } else if (op == "rename") {
    for (const std::string& name : match(string_at(edit, "tensor"))) {
      Shard& shard = shard_of(name);
      Tensor tensor = std::move(shard.at(name));
      shard.erase(name);
      shard[replaced(name, string_at(edit, "old"), string_at(edit, "new"))] = std::move(tensor);
    }
  } else if (op == "copy") {
    const std::string name = string_at(edit, "tensor");
    put(string_at(edit, "to"), at(name), name);
  } else if (op == "retag") {
    for (const std::string& name : match(string_at(edit, "tensor")))
      at(name).dtype = string_at(edit, "dtype");
  } else if (op == "swap") {
    std::swap(at(string_at(edit, "a")), at(string_at(edit, "b")));
  } else if (op == "shape") {
    const Json& shape = *edit.find("shape");
    for (const std::string& name : match(string_at(edit, "tensor"))) {
      Tensor& tensor = at(name);
      if (shape.is_array()) {
        tensor.shape.clear();
        for (const Json& side : shape.as_array()) tensor.shape.push_back(side.as_int());
        continue;
      }
      const auto rows = static_cast<std::size_t>(tensor.shape.at(0));
      const auto cols = static_cast<std::size_t>(tensor.shape.at(1));
      const std::size_t size = size_of(tensor.dtype);
      std::string moved(tensor.bytes.size(), '\0');
      for (std::size_t r = 0; r < rows; ++r) {
        for (std::size_t c = 0; c < cols; ++c) {
          std::memcpy(moved.data() + (c * rows + r) * size,
                      tensor.bytes.data() + (r * cols + c) * size, size);
        }
      }
      tensor.bytes = std::move(moved);
      std::swap(tensor.shape.at(0), tensor.shape.at(1));
    }
  } else if (op == "rows") {
    Tensor& tensor = at(string_at(edit, "tensor"));
    const std::size_t width = tensor.bytes.size() / static_cast<std::size_t>(tensor.shape.at(0));
    tensor.shape.at(0) -= int_at(edit, "drop");
    tensor.bytes.resize(static_cast<std::size_t>(tensor.shape.at(0)) * width);
  } else if (op == "byte") {
    at(string_at(edit, "tensor")).bytes.at(static_cast<std::size_t>(int_at(edit, "at"))) =
        static_cast<char>(int_at(edit, "value"));
  } else if (op == "zero_codes") {
    for (const std::string& name : match(string_at(edit, "tensor")))
      std::ranges::fill(at(name).bytes, '\0');
  } else if (op == "add") {
    Tensor tensor{.dtype = string_at(edit, "dtype")};
    std::size_t count = 1;
    for (const Json& side : edit.find("shape")->as_array()) {
      tensor.shape.push_back(side.as_int());
      count *= static_cast<std::size_t>(side.as_int());
    }
    tensor.bytes = to_bytes(tensor.dtype, repeated(float_at(edit, "value"), count));
    put(string_at(edit, "tensor"), std::move(tensor));
  } else if (op == "fuse_experts") {
    fuse_experts(int_at(edit, "layer"), string_at(edit, "scales"));
  } else {
    return false;
  }
  return true;
}

bool BrokenCheckpoint::apply_to_values(const std::string& op, const Json& edit) {
  const auto scale_of = [this](const std::string& weight) {
    return to_floats(at(weight + "_scale")).at(0);
  };
  const auto each = [&](const std::function<void(const std::string&, Tensor&)>& change) {
    for (const std::string& name : match(string_at(edit, "tensor"))) change(name, at(name));
    return true;
  };
  if (op == "cast") {
    return each([&](const std::string&, Tensor& t) {
      t.bytes = to_bytes(string_at(edit, "dtype"), to_floats(t));
      t.dtype = string_at(edit, "dtype");
    });
  }
  if (op == "fill") {
    return each([&](const std::string&, Tensor& t) {
      t.bytes =
          to_bytes(t.dtype, repeated(float_at(edit, "value"), t.bytes.size() / size_of(t.dtype)));
    });
  }
  if (op == "times" || op == "reciprocal") {
    return each([&](const std::string&, Tensor& t) {
      Floats values = to_floats(t);
      for (float& value : values)
        value = op == "times" ? value * float_at(edit, "factor") : 1.0f / value;
      t.bytes = to_bytes(t.dtype, values);
    });
  }
  if (op == "quantise") {
    return each([&](const std::string& name, Tensor& t) {
      Floats values = to_floats(t);
      float amax = 0.0f;
      for (const float value : values) amax = std::max(amax, std::abs(value));
      const float scale = amax / 448.0f;
      for (float& value : values) value /= scale;
      t = {"F8_E4M3", t.shape, to_bytes("F8_E4M3", values)};
      if (bool_at(edit, "weight_scale", true)) {
        put(name + "_scale", {"F32", {}, to_bytes("F32", {scale})}, name);
      }
      if (bool_at(edit, "input_scale", false)) {
        put(without_suffix(name, "weight") + "input_scale", {"F32", {}, to_bytes("F32", {0.01f})},
            name);
      }
    });
  }
  if (op == "dequantise") {
    return each([&](const std::string& name, Tensor& t) {
      const Json* const dtype = edit.find("dtype");
      Floats values = to_floats(t);
      for (float& value : values) value *= scale_of(name);
      t.dtype = dtype == nullptr ? "BF16" : dtype->as_string();
      t.bytes = to_bytes(t.dtype, values);
      if (!bool_at(edit, "keep_scales", true)) {
        erase(name + "_scale");
        erase(without_suffix(name, "weight") + "input_scale");
      }
    });
  }
  if (op == "unscaled_cast") {
    return each([&](const std::string& name, Tensor& t) {
      Floats values = to_floats(t);
      for (float& value : values) value *= scale_of(name);
      t.bytes = to_bytes("F8_E4M3", values);
      at(name + "_scale").bytes = to_bytes("F32", {1.0f});
    });
  }
  if (op == "requantise") {
    return each([&](const std::string& name, Tensor& t) {
      const float old = scale_of(name);
      const float scale = old * float_at(edit, "factor");
      Floats values = to_floats(t);
      for (float& value : values) value = value * old / scale;
      t.bytes = to_bytes("F8_E4M3", values);
      at(name + "_scale").bytes = to_bytes("F32", {scale});
    });
  }
  return false;
}

void BrokenCheckpoint::fuse_experts(std::int64_t layer, const std::string& scales) {
  const std::string prefix = fmt::format("model.language_model.layers.{}.experts.", layer);
  const auto count = static_cast<std::int64_t>(match(prefix + "*.gate_proj.weight").size());
  const auto take = [&](std::int64_t expert, std::string_view projection,
                        std::string_view kind) -> Tensor& {
    return at(fmt::format("{}{}.{}_proj.{}", prefix, expert, projection, kind));
  };
  const Tensor gate = take(0, "gate", "weight");
  const Tensor down = take(0, "down", "weight");
  Tensor all_gate_up{gate.dtype, {count, 2 * gate.shape.at(0), gate.shape.at(1)}, {}};
  Tensor all_down{down.dtype, {count, down.shape.at(0), down.shape.at(1)}, {}};
  for (std::int64_t expert = 0; expert < count; ++expert) {
    all_gate_up.bytes += take(expert, "gate", "weight").bytes + take(expert, "up", "weight").bytes;
    all_down.bytes += take(expert, "down", "weight").bytes;
  }
  put(prefix + "gate_up_proj", std::move(all_gate_up));
  put(prefix + "down_proj", std::move(all_down));
  if (scales != "none") {
    const bool pairs = scales == "2-D";
    for (const std::string kind : {"weight_scale", "input_scale"}) {
      Tensor of_gate{"F32", {count}, {}};
      if (pairs) of_gate.shape.push_back(2);
      Tensor of_down{"F32", {count}, {}};
      for (std::int64_t expert = 0; expert < count; ++expert) {
        of_gate.bytes += take(expert, "gate", kind).bytes;
        if (pairs) of_gate.bytes += take(expert, "up", kind).bytes;
        of_down.bytes += take(expert, "down", kind).bytes;
      }
      put(prefix + "gate_up_proj_" + kind, std::move(of_gate));
      put(prefix + "down_proj_" + kind, std::move(of_down));
    }
  }
  erase(prefix + "*.*_proj.*");
}

bool BrokenCheckpoint::apply_to_config(const std::string& op, const Json& edit) {
  const auto ignored = [this]() -> Json::Array& {
    return config.find("quantization_config")->find("ignored_layers")->as_array();
  };
  if (op == "config") {
    const auto [object, key] = at_path(config, string_at(edit, "path"));
    object->set(key, *edit.find("value"));
  } else if (op == "config_delete") {
    const auto [object, key] = at_path(config, string_at(edit, "path"));
    remove_member(*object, key);
  } else if (op == "config_move") {
    const auto [object, key] = at_path(config, string_at(edit, "path"));
    Json value = *object->find(key);
    const auto [there, name] = at_path(config, string_at(edit, "to"));
    there->set(name, std::move(value));
  } else if (op == "ignore_remove") {
    const std::string pattern = string_at(edit, "entry");
    std::erase_if(ignored(), [&](const Json& entry) {
      return fnmatch(pattern.c_str(), entry.as_string().c_str(), 0) == 0;
    });
  } else if (op == "ignore_add") {
    ignored().push_back(string_at(edit, "entry"));
  } else if (op == "compressed_tensors") {
    const Json args = Json::object({{"num_bits", 8},
                                    {"type", "float"},
                                    {"strategy", "tensor"},
                                    {"symmetric", true},
                                    {"dynamic", false}});
    Json ignore = Json::array();
    for (const Json& entry : ignored()) {
      const bool vision = entry.as_string().find("vision") != std::string::npos;
      if (bool_at(edit, "ignore_vision", true) || !vision) ignore.push_back(entry);
    }
    Json targets = Json::array();
    targets.push_back("Linear");
    const Json group =
        Json::object({{"targets", targets}, {"weights", args}, {"input_activations", args}});
    config.set(
        "quantization_config",
        Json::object({{"quant_method", "compressed-tensors"},
                      {"format", "float-quantized"},
                      {"quantization_status", "compressed"},
                      {"config_groups", Json::object({{"group_0", group}})},
                      {"ignore", std::move(ignore)},
                      {"kv_cache_scheme", bool_at(edit, "kv_cache", false) ? args : Json()}}));
  } else {
    return false;
  }
  return true;
}

bool BrokenCheckpoint::apply_to_index(const std::string& op, const Json& edit) {
  if (op == "index") {
    freeze();
    Json& map = *index_.find("weight_map");
    const Json* const file = edit.find("file");
    if (file == nullptr || file->is_null()) {
      for (const std::string& name : match(string_at(edit, "tensor"))) remove_member(map, name);
    } else {
      map.set(string_at(edit, "tensor"), *file);
    }
  } else if (op == "total_size") {
    freeze();
    Json& total = *index_.find("metadata")->find("total_size");
    total = Json(total.as_int() + int_at(edit, "add"));
  } else if (op == "stale_index") {
    freeze();
  } else if (op == "twice") {
    freeze();
    const std::string name = string_at(edit, "tensor");
    const Tensor tensor = at(name);
    shards_.at(string_at(edit, "file"))[name] = tensor;
  } else {
    return false;
  }
  return true;
}

bool BrokenCheckpoint::apply_to_files(const std::string& op, const Json& edit) {
  const auto with_header = [](const std::string& file, const std::function<void(Parsed&)>& change) {
    return [file, change](Blobs& blobs) {
      Parsed parsed = split(blobs.at(file));
      change(parsed);
      blobs[file] = container(to_text(parsed.header), parsed.data);
    };
  };
  const auto file_holding = [this](const std::string& tensor) {
    for (const auto& [file, shard] : shards_) {
      if (shard.contains(tensor)) return file;
    }
    refuse("no tensor " + tensor);
  };
  if (op == "file_delete") {
    after_.push_back([file = string_at(edit, "file")](Blobs& blobs) { blobs.erase(file); });
  } else if (op == "file_truncate") {
    after_.push_back([file = string_at(edit, "file"), drop = int_at(edit, "drop")](Blobs& blobs) {
      blobs.at(file).resize(blobs.at(file).size() - static_cast<std::size_t>(drop));
    });
  } else if (op == "file_append") {
    after_.push_back([file = string_at(edit, "file"), count = int_at(edit, "count")](Blobs& blobs) {
      blobs.at(file).append(static_cast<std::size_t>(count), '\0');
    });
  } else if (op == "file_text") {
    after_.push_back([file = string_at(edit, "file"),
                      text = string_at(edit, "text")](Blobs& blobs) { blobs[file] = text; });
  } else if (op == "file_copy") {
    after_.push_back([file = string_at(edit, "file"), to = string_at(edit, "to")](Blobs& blobs) {
      blobs[to] = blobs.at(file);
    });
  } else if (op == "header_length") {
    const Json& value = *edit.find("value");
    const std::uint64_t length = value.is_big_integer()
                                     ? std::stoull(value.as_big_integer().digits)
                                     : static_cast<std::uint64_t>(value.as_int());
    after_.push_back([file = string_at(edit, "file"), length](Blobs& blobs) {
      blobs.at(file).replace(0, 8, length_prefix(length));
    });
  } else if (op == "header_byte") {
    after_.push_back([file = string_at(edit, "file"), at = int_at(edit, "at"),
                      value = int_at(edit, "value")](Blobs& blobs) {
      blobs.at(file).at(8 + static_cast<std::size_t>(at)) = static_cast<char>(value);
    });
  } else if (op == "offsets") {
    const std::string tensor = string_at(edit, "tensor");
    after_.push_back(with_header(file_holding(tensor), [tensor, begin = int_at(edit, "begin"),
                                                        end = int_at(edit, "end")](Parsed& p) {
      Json::Array& offsets = offsets_of(p.header, tensor);
      offsets[0] = Json(offsets[0].as_int() + begin);
      offsets[1] = Json(offsets[1].as_int() + end);
    }));
  } else if (op == "alias") {
    const std::string tensor = string_at(edit, "tensor"), other = string_at(edit, "other");
    after_.push_back(with_header(file_holding(tensor), [tensor, other](Parsed& p) {
      offsets_of(p.header, tensor) = offsets_of(p.header, other);
    }));
  } else if (op == "hole") {
    after_.push_back(
        with_header(string_at(edit, "file"), [count = int_at(edit, "count")](Parsed& p) {
          for (JsonMember& member : p.header.as_object()) {
            if (member.key == "__metadata__") continue;
            for (Json& offset : member.value.find("data_offsets")->as_array())
              offset = Json(offset.as_int() + count);
          }
          p.data.insert(0, static_cast<std::size_t>(count), '\0');
        }));
  } else if (op == "duplicate_key") {
    const std::string tensor = string_at(edit, "tensor");
    after_.push_back([tensor, file = file_holding(tensor)](Blobs& blobs) {
      const Parsed parsed = split(blobs.at(file));
      const Json& mine = *parsed.header.find(tensor);
      const auto twin =
          std::ranges::find_if(parsed.header.as_object(), [&](const JsonMember& member) {
            return member.key != "__metadata__" && member.key != tensor &&
                   *member.value.find("shape") == *mine.find("shape") &&
                   *member.value.find("dtype") == *mine.find("dtype");
          });
      std::string text = to_text(parsed.header);
      text.pop_back();
      text += fmt::format(",\"{}\":{}}}", tensor, to_text(twin->value));
      blobs[file] = container(std::move(text), parsed.data);
    });
  } else {
    return false;
  }
  return true;
}

}  // namespace gem8::testing
