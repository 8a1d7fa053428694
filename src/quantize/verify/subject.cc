#include "quantize/verify/subject.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstring>
#include <map>

#include "foundation/mapped_file.h"

namespace gem8::verify {

namespace {

namespace fs = std::filesystem;

std::vector<std::string> strings_of(const Json* list) {
  std::vector<std::string> result;
  if (list == nullptr || !list->is_array()) return result;
  for (const Json& item : list->as_array()) {
    if (item.is_string()) result.push_back(item.as_string());
  }
  return result;
}

std::string string_of(const Json& object, std::string_view key) {
  const Json* const found = object.find(key);
  return found != nullptr && found->is_string() ? found->as_string() : std::string();
}

bool is_true(const Json* value) {
  return value != nullptr && value->is_bool() && value->as_bool();
}

void read_groups(const Json& quantization, Quantization& result) {
  const Json* const groups = quantization.find("config_groups");
  bool dynamic = false;
  bool any_input = false;
  if (groups != nullptr && groups->is_object()) {
    for (const JsonMember& member : groups->as_object()) {
      for (std::string& target : strings_of(member.value.find("targets"))) {
        result.targets.push_back(std::move(target));
      }
      if (const Json* const weights = member.value.find("weights");
          weights != nullptr && weights->is_object()) {
        result.weight_strategy = string_of(*weights, "strategy");
        if (result.weight_strategy == "block") {
          result.has_block_size = true;
          if (const Json* const block = weights->find("block_structure");
              block != nullptr && block->is_array()) {
            for (const Json& side : block->as_array()) {
              if (side.is_int()) result.block_size.push_back(side.as_int());
            }
          }
        }
      }
      if (const Json* const input = member.value.find("input_activations");
          input != nullptr && input->is_object()) {
        any_input = true;
        dynamic |= is_true(input->find("dynamic"));
      }
    }
  }
  result.scheme =
      any_input && !dynamic ? Quantization::Scheme::kStatic : Quantization::Scheme::kDynamic;
}

Quantization read_quantization(const Json& config) {
  Quantization result;
  const Json* quantization = config.find("quantization_config");
  result.in_top_level = quantization != nullptr && quantization->is_object();
  const Json* const text = config.find("text_config");
  const Json* const inner = text != nullptr ? text->find("quantization_config") : nullptr;
  result.in_text_config = inner != nullptr && inner->is_object();
  if (!result.in_top_level) quantization = inner;
  if (quantization == nullptr || !quantization->is_object()) {
    quantization = config.find("compression_config");
  }
  if (quantization == nullptr || !quantization->is_object()) return result;

  using Format = Quantization::Format;
  using Scheme = Quantization::Scheme;
  result.method_name = string_of(*quantization, "quant_method");
  const Json* const kv = quantization->find("kv_cache_scheme");
  result.has_kv_scheme = kv != nullptr && !kv->is_null();
  if (result.method_name == "compressed-tensors") {
    result.format = Format::kCompressedTensors;
    result.ignored = strings_of(quantization->find("ignore"));
    read_groups(*quantization, result);
    return result;
  }
  if (result.method_name.starts_with("modelopt")) {
    result.format = Format::kModelOpt;
    result.scheme = Scheme::kStatic;
    result.ignored = strings_of(quantization->find("exclude_modules"));
    if (result.ignored.empty()) result.ignored = strings_of(quantization->find("ignore"));
    return result;
  }
  result.format =
      result.method_name.find("fp8") != std::string::npos ? Format::kFp8 : Format::kUnknown;
  if (const Json* const scheme = quantization->find("activation_scheme"); scheme != nullptr) {
    result.scheme_name =
        scheme->is_string() ? scheme->as_string() : std::string(scheme->kind_name());
    result.scheme = result.scheme_name == "static"    ? Scheme::kStatic
                    : result.scheme_name == "dynamic" ? Scheme::kDynamic
                                                      : Scheme::kUnknown;
  }
  result.ignored = strings_of(quantization->find("ignored_layers"));
  if (result.ignored.empty()) {
    result.ignored = strings_of(quantization->find("modules_to_not_convert"));
  }
  if (const Json* const block = quantization->find("weight_block_size");
      block != nullptr && !block->is_null()) {
    result.has_block_size = true;
    if (block->is_array()) {
      for (const Json& side : block->as_array()) {
        if (side.is_int()) result.block_size.push_back(side.as_int());
      }
    }
  }
  return result;
}

Json without_member(const Json& object, std::string_view key) {
  Json::Object kept;
  for (const JsonMember& member : object.as_object()) {
    if (member.key != key) kept.push_back(member);
  }
  return Json(std::move(kept));
}

/// The geometry alone, so that a quantisation nobody knows does not hide the model.
Result<ModelConfig> read_geometry(const Json& config) {
  Json bare = without_member(without_member(config, "quantization_config"), "compression_config");
  if (Json* const text = bare.find("text_config"); text != nullptr && text->is_object()) {
    *text = without_member(*text, "quantization_config");
  }
  return parse_model_config(std::move(bare));
}

void read_config(Subject& subject) {
  const auto text = read_text_file(subject.dir / "config.json", std::size_t{64} << 20);
  if (!text) {
    subject.config_error = text.error().text();
    return;
  }
  auto config = parse_json(*text);
  if (!config) {
    subject.config_error = config.error().text();
    return;
  }
  if (!config->is_object()) {
    subject.config_error = fmt::format("found {}, wanted an object", config->kind_name());
    return;
  }
  subject.config = std::move(*config);
  subject.quantization = read_quantization(*subject.config);
  if (auto model = read_geometry(*subject.config); model) {
    subject.model = std::move(*model);
  } else {
    subject.model_error = model.error().text();
  }
}

void read_files(Subject& subject, const std::vector<std::string>& names) {
  for (const std::string& name : names) {
    auto report = inspect_safetensors(subject.dir / name);
    if (report) {
      subject.files.push_back({name, std::move(*report)});
    } else {
      subject.unreadable_files.emplace_back(name, report.error().text());
    }
  }
  for (std::size_t file = 0; file < subject.files.size(); ++file) {
    const SafetensorsReport& report = subject.files[file].report;
    std::map<std::string_view, const TensorInfo*> sound;
    for (const TensorInfo& info : report.tensors) sound.emplace(info.name, &info);
    std::string_view before;
    for (const std::string& name : report.names) {
      if (name == before) continue;
      before = name;
      const auto found = sound.find(name);
      subject.tensors.push_back({name, file, found == sound.end() ? nullptr : found->second});
    }
  }
  std::ranges::stable_sort(subject.tensors, {}, &Stored::name);
  for (std::size_t i = 0; i < subject.tensors.size(); ++i) {
    subject.by_name.try_emplace(subject.tensors[i].name, i);
  }
}

/// What stands before "layers.": the first spelling that occurs.
std::string find_text_prefix(const Subject& subject) {
  for (const std::string_view prefix : kTextPrefixes) {
    const std::string start = std::string(prefix) + "layers.";
    const auto at = std::ranges::lower_bound(subject.tensors, start, {}, &Stored::name);
    if (at != subject.tensors.end() && at->name.starts_with(start)) return std::string(prefix);
  }
  const bool text_only = subject.model && subject.model->text_only_class;
  return text_only ? "model." : "model.language_model.";
}

LinearState state_of(const Subject& subject, const LinearGroup& group, const Linear& linear) {
  LinearState state{
      .group = &group, .linear = &linear, .module = subject.text_prefix + linear.name};
  if (group.expert >= 0 && subject.find(state.module + ".weight") == nullptr) {
    const std::string rest = fmt::format("experts.{}.{}", group.expert, linear.projection);
    const std::string layer = fmt::format("{}layers.{}.", subject.text_prefix, group.layer);
    if (subject.find(layer + "moe." + rest + ".weight") != nullptr)
      state.module = layer + "moe." + rest;
  }
  state.weight = subject.find(state.module + ".weight");
  if (group.expert >= 0 && state.weight == nullptr) {
    state.weight = subject.find(state.module);
    state.bare_name = state.weight != nullptr;
  }
  if (group.expert >= 0 && state.weight == nullptr) {
    const std::string_view fused =
        group.input == InputSite::kExpertsDown ? "down_proj" : "gate_up_proj";
    const std::string base =
        fmt::format("{}layers.{}.experts.{}", subject.text_prefix, group.layer, fused);
    state.weight = subject.find(base);
    if (state.weight == nullptr) state.weight = subject.find(base + ".weight");
    state.in_fused_3d = state.weight != nullptr;
  }
  state.weight_scale = subject.find(state.module + ".weight_scale");
  state.input_scale = subject.find(state.module + ".input_scale");
  return state;
}

}  // namespace

bool LinearState::is_float() const {
  if (weight == nullptr || weight->info == nullptr) return false;
  const DType dtype = weight->info->dtype;
  return dtype == DType::kBF16 || dtype == DType::kF16 || dtype == DType::kF32 ||
         dtype == DType::kF64;
}

const Stored* Subject::find(std::string_view name) const {
  const auto found = by_name.find(name);
  return found == by_name.end() ? nullptr : &tensors[found->second];
}

std::optional<std::int32_t> Subject::layer_of(std::string_view name, std::string_view* rest) const {
  if (!name.starts_with(text_prefix)) return std::nullopt;
  name.remove_prefix(text_prefix.size());
  if (!name.starts_with("layers.")) return std::nullopt;
  name.remove_prefix(7);
  std::int32_t layer = 0;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), layer);
  if (error != std::errc() || end == name.data() + name.size() || *end != '.') return std::nullopt;
  if (rest != nullptr) *rest = name.substr(static_cast<std::size_t>(end - name.data()) + 1);
  return layer;
}

std::optional<float> Subject::scalar(const Stored* stored) {
  if (stored == nullptr || stored->info == nullptr || stored->info->n_elements() != 1) {
    return std::nullopt;
  }
  const TensorInfo& info = *stored->info;
  std::uint16_t half = 0;
  float value = 0.0f;
  switch (info.dtype) {
    case DType::kF32:
      std::memcpy(&value, info.bytes.data(), 4);
      return value;
    case DType::kBF16:
      std::memcpy(&half, info.bytes.data(), 2);
      return static_cast<float>(BF16::from_bits(half));
    case DType::kF16:
      std::memcpy(&half, info.bytes.data(), 2);
      return f16_to_float(half);
    default:
      return std::nullopt;
  }
}

Result<Subject> read_subject(const fs::path& dir, std::shared_ptr<const Checkpoint> source) {
  std::error_code error;
  if (!fs::is_directory(dir, error))
    return fail(Code::kNotFound, "'{}' is no folder", dir.string());
  std::vector<std::string> names;
  for (fs::directory_iterator at(dir, error), end; !error && at != end; at.increment(error)) {
    std::string name = at->path().filename().string();
    if (name.ends_with(".safetensors")) names.push_back(std::move(name));
  }
  if (error) return system_error("cannot list", dir, error.value());
  std::ranges::sort(names);
  if (names.empty() && !fs::exists(dir / "config.json", error)) {
    return fail(Code::kNotFound, "'{}' holds neither config.json nor a .safetensors file",
                dir.string());
  }

  Subject subject;
  subject.dir = dir;
  subject.source = std::move(source);
  read_config(subject);
  subject.index_exists = fs::exists(dir / kIndexFileName, error);
  if (subject.index_exists) {
    const auto text = read_text_file(dir / kIndexFileName);
    auto index =
        text ? parse_shard_index(*text) : Result<ShardIndex>(std::unexpected(text.error()));
    if (index) {
      subject.index = std::move(*index);
    } else {
      subject.index_error = index.error().text();
    }
  }
  read_files(subject, names);
  subject.text_prefix = find_text_prefix(subject);
  if (subject.model) {
    for (std::int32_t layer = 0; layer < subject.model->text.n_layers; ++layer) {
      for (LinearGroup& group : linear_groups(subject.model->text, layer)) {
        subject.groups.push_back(std::move(group));
      }
    }
    for (const LinearGroup& group : subject.groups) {
      for (const Linear& linear : group.members) {
        subject.linears.push_back(state_of(subject, group, linear));
      }
    }
  }
  return subject;
}

}  // namespace gem8::verify
