#include "quantize/plan.h"

#include <fmt/format.h>
#include <re2/re2.h>

#include <algorithm>
#include <memory>
#include <set>

namespace gem8 {

namespace {

using Patterns = std::vector<std::unique_ptr<RE2>>;

Result<Patterns> compile(const std::vector<std::string>& expressions) {
  Patterns patterns;
  for (const std::string& expression : expressions) {
    RE2::Options options;
    options.set_log_errors(false);
    patterns.push_back(std::make_unique<RE2>(expression, options));
    if (!patterns.back()->ok()) {
      return fail(Code::kInvalidArgument, "--ignore '{}': {}", expression,
                  patterns.back()->error());
    }
  }
  return patterns;
}

bool matches(const Patterns& patterns, const std::string& module) {
  return std::ranges::any_of(
      patterns, [&](const auto& pattern) { return RE2::PartialMatch(module, *pattern); });
}

/// The linears of one layer that the checkpoint stores, checked.
struct LayerLinears {
  std::vector<LinearGroup> groups;
  std::vector<std::vector<StoredWeight>> weights;
  std::vector<std::vector<std::string>> modules;
};

Result<LayerLinears> find_layer(const Checkpoint& source, std::int32_t layer) {
  const TextConfig& text = source.config().text;
  LayerLinears result;
  for (LinearGroup& group : linear_groups(text, layer)) {
    std::vector<StoredWeight> weights;
    std::vector<std::string> modules;
    std::vector<Linear> stored;
    for (const Linear& linear : group.members) {
      const auto weight = find_weight(source, text, group, linear);
      if (!weight) {
        const TensorInfo* const misfit = source.find_text(linear.name + ".weight");
        if (linear.optional && misfit == nullptr) continue;
        return source.refuse(
            {Code::kCorrupt,
             misfit == nullptr
                 ? fmt::format("linear '{}{}' is missing, config.json wants [{}, {}]",
                               source.text_prefix(), linear.name, linear.out, linear.in)
                 : fmt::format("tensor '{}': shape {}, config.json wants [{}, {}]", misfit->name,
                               shape_text(misfit->shape), linear.out, linear.in)});
      }
      if (weight->dtype != DType::kBF16 && weight->dtype != DType::kF32) {
        return source.refuse(
            {Code::kUnsupported, fmt::format("tensor '{}': {}, wanted BF16 or F32", weight->tensor,
                                             dtype_name(weight->dtype))});
      }
      weights.push_back(*weight);
      modules.push_back(source.text_prefix() + linear.name);
      stored.push_back(linear);
    }
    if (stored.empty()) continue;
    group.members = std::move(stored);
    result.groups.push_back(std::move(group));
    result.weights.push_back(std::move(weights));
    result.modules.push_back(std::move(modules));
  }
  return result;
}

/// Which groups --ignore keeps. Engines fuse {q, k, v}, {gate, up} and all experts of a layer: all
/// or none.
Result<std::vector<bool>> find_kept(const LayerLinears& layer, const Patterns& patterns) {
  std::vector<bool> kept(layer.groups.size());
  std::size_t experts = 0, kept_experts = 0;
  std::string partial_expert;
  for (std::size_t i = 0; i < layer.groups.size(); ++i) {
    const std::vector<std::string>& modules = layer.modules[i];
    const auto n = static_cast<std::size_t>(std::ranges::count_if(
        modules, [&](const std::string& module) { return matches(patterns, module); }));
    if (n > 0 && n < modules.size()) {
      return fail(Code::kInvalidArgument,
                  "--ignore matches {} of {}, which engines fuse: keep all of them or none", n,
                  fmt::join(modules, ", "));
    }
    kept[i] = n > 0;
    if (layer.groups[i].expert >= 0) {
      experts += 1;
      kept_experts += kept[i];
    }
  }
  if (kept_experts > 0 && kept_experts < experts) {
    return fail(Code::kInvalidArgument,
                "--ignore matches some expert projections of layer {}, not all: engines keep the "
                "experts of "
                "a layer together",
                layer.groups.front().layer);
  }
  return kept;
}

std::uint64_t group_bytes(const LinearGroup& group, Scheme scheme) {
  std::uint64_t bytes = 0;
  for (const Linear& linear : group.members) {
    bytes += static_cast<std::uint64_t>(linear.out) * static_cast<std::uint64_t>(linear.in);
    bytes += scheme == Scheme::kStatic ? 8 : 4;
  }
  return bytes;
}

std::vector<ConversionShard> divide(const std::vector<ConversionItem>& items,
                                    std::uint64_t shard_bytes) {
  std::vector<ConversionShard> shards;
  std::uint64_t filled = 0;
  for (std::size_t i = 0; i < items.size(); ++i) {
    if (shards.empty() || (filled > 0 && filled + items[i].bytes > shard_bytes)) {
      shards.emplace_back();
      filled = 0;
    }
    shards.back().items.push_back(i);
    filled += items[i].bytes;
  }
  for (std::size_t i = 0; i < shards.size(); ++i)
    shards[i].file = shard_file_name(i + 1, shards.size());
  return shards;
}

/// Linears outside the text layers, in the order a reader expects: connector, patch embedder,
/// tower.
void add_vision(const Checkpoint& source, std::vector<std::string>& names) {
  const auto add = [&](const std::string& canonical) {
    const TensorInfo* const weight = source.find_multimodal(canonical + ".weight");
    if (weight != nullptr) names.push_back(weight->name.substr(0, weight->name.size() - 7));
  };
  add("embed_vision.embedding_projection");
  add("vision_tower.patch_embedder.input_proj");
  const std::int32_t layers = source.config().vision ? source.config().vision->n_layers : 0;
  for (std::int32_t layer = 0; layer < layers; ++layer) {
    const std::string base = fmt::format("vision_tower.encoder.layers.{}.", layer);
    for (const std::string_view name : {"q_proj", "k_proj", "v_proj", "o_proj"}) {
      add(fmt::format("{}self_attn.{}.linear", base, name));
    }
    for (const std::string_view name : {"gate_proj", "up_proj", "down_proj"}) {
      add(fmt::format("{}mlp.{}.linear", base, name));
    }
  }
}

/// Appends the modules of a layer that --ignore keeps, as engines will look for them.
void add_kept_modules(const Checkpoint& source, const LayerLinears& linears,
                      const std::vector<bool>& kept, std::vector<std::string>& names) {
  bool experts = false;
  for (std::size_t i = 0; i < linears.groups.size(); ++i) {
    if (!kept[i]) continue;
    const LinearGroup& group = linears.groups[i];
    const std::string layer = fmt::format("{}layers.{}.", source.text_prefix(), group.layer);
    if (group.expert >= 0) {
      // Both spellings: which one engines look for depends on their age.
      if (!experts) names.insert(names.end(), {layer + "experts", layer + "moe.experts"});
      experts = true;
      continue;
    }
    const std::vector<std::string>& modules = linears.modules[i];
    names.insert(names.end(), modules.begin(), modules.end());
    if (group.input != InputSite::kAttention) continue;
    // Engines expand their fused module to q, k and v on every layer, stored or not.
    for (const std::string_view name : {"k_proj", "v_proj"}) {
      std::string module = fmt::format("{}self_attn.{}", layer, name);
      if (std::ranges::find(modules, module) == modules.end()) names.push_back(std::move(module));
    }
  }
}

/// The linears that are not kept.
LayerLinears without(LayerLinears linears, const std::vector<bool>& kept) {
  LayerLinears result;
  for (std::size_t i = 0; i < linears.groups.size(); ++i) {
    if (kept[i]) continue;
    result.groups.push_back(std::move(linears.groups[i]));
    result.weights.push_back(std::move(linears.weights[i]));
    result.modules.push_back(std::move(linears.modules[i]));
  }
  return result;
}

/// The source's tensors that are copied: those before the layers, of each layer, after them.
struct Copied {
  std::vector<const TensorInfo*> before;
  std::vector<std::vector<const TensorInfo*>> of_layer;
  std::vector<const TensorInfo*> after;
};

Copied find_copied(const Checkpoint& source, const std::vector<LayerLinears>& quantised) {
  std::set<std::string_view> replaced;
  for (const LayerLinears& layer : quantised) {
    for (const std::vector<StoredWeight>& weights : layer.weights) {
      for (const StoredWeight& weight : weights) replaced.insert(source.find(weight.tensor)->name);
    }
  }
  const TextConfig& text = source.config().text;
  Copied copied{.of_layer = std::vector<std::vector<const TensorInfo*>>(quantised.size())};
  for (const CheckpointTensor& tensor : source.tensors()) {
    const TensorInfo& info = *tensor.info;
    if (replaced.contains(info.name)) continue;
    if (info.name == "lm_head.weight" && text.tie_word_embeddings) continue;
    const auto canonical = source.canonical_text_name(info.name);
    int layer = -1;
    if (canonical && std::sscanf(canonical->c_str(), "layers.%d.", &layer) == 1 && layer >= 0 &&
        layer < text.n_layers) {
      copied.of_layer[static_cast<std::size_t>(layer)].push_back(&info);
    } else {
      (canonical ? copied.before : copied.after).push_back(&info);
    }
  }
  return copied;
}

/// Fills the plan's groups, items and sums: what is before the layers, each layer, what is after.
void list_items(const Checkpoint& source, std::vector<LayerLinears> quantised,
                ConversionPlan& plan) {
  const Copied copied = find_copied(source, quantised);
  std::size_t n_groups = 0;
  for (const LayerLinears& layer : quantised) n_groups += layer.groups.size();
  plan.groups.reserve(n_groups);  // items point into it
  const auto copy = [&](const std::vector<const TensorInfo*>& tensors, std::int32_t layer) {
    for (const TensorInfo* const info : tensors)
      plan.items.push_back({.layer = layer, .kept = info, .bytes = info->bytes.size()});
  };
  copy(copied.before, -1);
  for (std::size_t i = 0; i < quantised.size(); ++i) {
    const auto layer = static_cast<std::int32_t>(i);
    LayerLinears& linears = quantised[i];
    copy(copied.of_layer[i], layer);
    for (std::size_t g = 0; g < linears.groups.size(); ++g) {
      const LinearGroup& group = plan.groups.emplace_back(std::move(linears.groups[g]));
      for (const Linear& linear : group.members) {
        plan.quantised_parameters +=
            static_cast<std::uint64_t>(linear.out) * static_cast<std::uint64_t>(linear.in);
      }
      plan.n_quantised += group.members.size();
      plan.items.push_back({.layer = layer,
                            .group = &group,
                            .weights = std::move(linears.weights[g]),
                            .modules = std::move(linears.modules[g]),
                            .bytes = group_bytes(group, plan.scheme)});
    }
  }
  copy(copied.after, -1);
  for (const CheckpointTensor& tensor : source.tensors())
    plan.source_bytes += tensor.info->bytes.size();
  for (const ConversionItem& item : plan.items) plan.total_bytes += item.bytes;
}

}  // namespace

std::vector<std::string> ignored_layers(const Checkpoint& source,
                                        const std::vector<std::string>& kept) {
  std::vector<std::string> names = {"lm_head"};
  add_vision(source, names);
  std::set<std::string> listed(names.begin(), names.end());
  const std::string& prefix = source.text_prefix();
  const std::int32_t layers = source.config().text.n_layers;
  for (std::int32_t layer = 0; layer < layers; ++layer) {
    if (source.find_text(fmt::format("layers.{}.router.proj.weight", layer)) != nullptr) {
      names.push_back(fmt::format("{}layers.{}.router.proj", prefix, layer));
    }
  }
  if (source.find_text("per_layer_model_projection.weight") != nullptr) {
    names.push_back(prefix + "per_layer_model_projection");
  }
  for (std::int32_t layer = 0; layer < layers; ++layer) {
    for (const std::string_view name : {"per_layer_input_gate", "per_layer_projection"}) {
      const std::string module = fmt::format("layers.{}.{}", layer, name);
      if (source.find_text(module + ".weight") != nullptr) names.push_back(prefix + module);
    }
  }
  // Whatever else is linear in towers that gem8 only copies.
  for (const CheckpointTensor& tensor : source.tensors()) {
    const std::string& name = tensor.info->name;
    if (!name.ends_with(".weight") || tensor.info->shape.size() != 2) continue;
    if (source.canonical_text_name(name) || name == "lm_head.weight") continue;
    const std::string module = name.substr(0, name.size() - 7);
    if (listed.insert(module).second) names.push_back(module);
  }
  names.insert(names.end(), kept.begin(), kept.end());
  return names;
}

Result<ConversionPlan> make_conversion_plan(const Checkpoint& source,
                                            const ConversionOptions& options) {
  if (source.config().quantization) {
    return fail(Code::kUnsupported, "{}: already quantised ({}), wanted an unquantised checkpoint",
                source.dir().string(), source.config().quantization->method_name);
  }
  GEM8_TRY(const Patterns patterns, compile(options.ignore));
  ConversionPlan plan{.scheme = options.scheme};
  std::vector<LayerLinears> quantised;
  for (std::int32_t layer = 0; layer < source.config().text.n_layers; ++layer) {
    if (!source.config().text.has_experts()) {
      if (const Status none = source.check_no_experts(layer); !none)
        return source.refuse(none.error());
    }
    GEM8_TRY(LayerLinears linears, find_layer(source, layer));
    GEM8_TRY(const std::vector<bool> kept, find_kept(linears, patterns));
    add_kept_modules(source, linears, kept, plan.kept_by_request);
    quantised.push_back(without(std::move(linears), kept));
  }
  list_items(source, std::move(quantised), plan);
  if (plan.groups.empty())
    return fail(Code::kInvalidArgument, "--ignore leaves nothing to quantise");

  plan.shards = divide(plan.items, options.shard_bytes);
  plan.ignored_layers = ignored_layers(source, plan.kept_by_request);
  Json ignored = Json::array();
  for (const std::string& name : plan.ignored_layers) ignored.push_back(name);
  plan.config = source.config().raw;
  plan.config.set(
      "quantization_config",
      Json::object({{"quant_method", "fp8"},
                    {"activation_scheme", options.scheme == Scheme::kStatic ? "static" : "dynamic"},
                    {"ignored_layers", std::move(ignored)}}));
  return plan;
}

}  // namespace gem8
