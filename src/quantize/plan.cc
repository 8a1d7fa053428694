#include "quantize/plan.h"

#include <fmt/format.h>
#include <re2/re2.h>

#include <algorithm>
#include <memory>
#include <set>

#include "quantize/encode.h"

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
        if (linear.optional && source.find_text(linear.name + ".weight") == nullptr) continue;
        return fail(Code::kCorrupt,
                    "linear '{}{}': not stored with shape [{}, {}], which config.json wants",
                    source.text_prefix(), linear.name, linear.out, linear.in);
      }
      if (!is_weight_dtype(weight->dtype)) {
        return fail(Code::kUnsupported, "tensor '{}': {}, wanted BF16, F16 or F32", weight->tensor,
                    dtype_name(weight->dtype));
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
  const TextConfig& text = source.config().text;

  ConversionPlan plan{.scheme = options.scheme};
  std::set<std::string_view> replaced;  // source tensors that are not copied
  struct Quantised {
    LinearGroup group;
    std::vector<StoredWeight> weights;
    std::vector<std::string> modules;
  };
  std::vector<Quantised> quantised;
  for (std::int32_t layer = 0; layer < text.n_layers; ++layer) {
    GEM8_TRY(LayerLinears linears, find_layer(source, layer));
    GEM8_TRY(const std::vector<bool> kept, find_kept(linears, patterns));
    bool kept_experts = false;
    for (std::size_t i = 0; i < linears.groups.size(); ++i) {
      LinearGroup& group = linears.groups[i];
      if (!kept[i]) {
        for (const StoredWeight& weight : linears.weights[i]) {
          replaced.insert(source.find(weight.tensor)->name);
        }
        quantised.push_back(
            {std::move(group), std::move(linears.weights[i]), std::move(linears.modules[i])});
        continue;
      }
      if (group.expert >= 0) {
        if (kept_experts) continue;
        kept_experts = true;
        // Both spellings: which one engines look for depends on their age.
        plan.kept_by_request.push_back(
            fmt::format("{}layers.{}.experts", source.text_prefix(), layer));
        plan.kept_by_request.push_back(
            fmt::format("{}layers.{}.moe.experts", source.text_prefix(), layer));
        continue;
      }
      for (const std::string& module : linears.modules[i]) plan.kept_by_request.push_back(module);
      if (group.input == InputSite::kAttention) {
        // Engines expand their fused module to q, k and v on every layer, stored or not.
        for (const std::string_view name : {"k_proj", "v_proj"}) {
          const std::string module =
              fmt::format("{}layers.{}.self_attn.{}", source.text_prefix(), layer, name);
          if (std::ranges::find(linears.modules[i], module) == linears.modules[i].end()) {
            plan.kept_by_request.push_back(module);
          }
        }
      }
    }
  }
  plan.groups.reserve(quantised.size());  // items point into it

  const auto add_kept = [&](const TensorInfo& info, std::int32_t layer) {
    plan.items.push_back({.layer = layer, .kept = &info, .bytes = info.bytes.size()});
  };
  std::vector<std::vector<const TensorInfo*>> of_layer(static_cast<std::size_t>(text.n_layers));
  std::vector<const TensorInfo*> after;
  for (const CheckpointTensor& tensor : source.tensors()) {
    const TensorInfo& info = *tensor.info;
    plan.source_bytes += info.bytes.size();
    if (replaced.contains(info.name)) continue;
    if (info.name == "lm_head.weight" && text.tie_word_embeddings) continue;
    const auto canonical = source.canonical_text_name(info.name);
    int layer = -1;
    if (canonical && std::sscanf(canonical->c_str(), "layers.%d.", &layer) == 1 && layer >= 0 &&
        layer < text.n_layers) {
      of_layer[static_cast<std::size_t>(layer)].push_back(&info);
    } else if (canonical) {
      add_kept(info, -1);
    } else {
      after.push_back(&info);
    }
  }
  std::size_t next = 0;
  for (std::int32_t layer = 0; layer < text.n_layers; ++layer) {
    for (const TensorInfo* const info : of_layer[static_cast<std::size_t>(layer)])
      add_kept(*info, layer);
    for (; next < quantised.size() && quantised[next].group.layer == layer; ++next) {
      Quantised& q = quantised[next];
      plan.groups.push_back(std::move(q.group));
      const LinearGroup& group = plan.groups.back();
      for (const Linear& linear : group.members) {
        plan.quantised_parameters +=
            static_cast<std::uint64_t>(linear.out) * static_cast<std::uint64_t>(linear.in);
      }
      plan.n_quantised += group.members.size();
      plan.items.push_back({.layer = layer,
                            .group = &group,
                            .weights = std::move(q.weights),
                            .modules = std::move(q.modules),
                            .bytes = group_bytes(group, options.scheme)});
    }
  }
  for (const TensorInfo* const info : after) add_kept(*info, -1);
  for (const ConversionItem& item : plan.items) plan.total_bytes += item.bytes;
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
