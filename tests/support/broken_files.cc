// The edits of BrokenCheckpoint that change config.json, the index and the bytes of files.
#include <fnmatch.h>

#include <algorithm>

#include "tests/support/broken_checkpoint.h"
#include "tests/support/broken_checkpoint_parts.h"

namespace gem8::testing {

namespace {

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
