#include "formats/checkpoint_summary.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <charconv>
#include <cmath>
#include <cstring>
#include <set>

namespace gem8 {
namespace {

constexpr std::string_view kPartNames[] = {"experts",   "attention", "mlp",   "embeddings",
                                           "per_layer", "router",    "norms", "scales",
                                           "vision",    "audio",     "other"};

/// The scale a name ends in, or "" for anything else.
std::string_view scale_kind(std::string_view name) {
  const std::string_view last = name.substr(name.rfind('.') + 1);
  constexpr std::string_view kKinds[] = {"weight_scale", "weight_scale_inv", "input_scale",
                                         "k_scale",      "v_scale",          "q_scale",
                                         "kv_scale",     "output_scale"};
  return std::ranges::find(kKinds, last) != std::end(kKinds) ? last : std::string_view();
}

bool contains(std::string_view text, std::string_view piece) {
  return text.find(piece) != std::string_view::npos;
}

ModelPart part_by_owner(const Checkpoint& checkpoint, std::string_view tensor) {
  for (const std::string_view word : {"vision_tower.", "embed_vision.", "vision_embedder."}) {
    if (contains(tensor, word)) return ModelPart::kVision;
  }
  for (const std::string_view word : {"audio_tower.", "embed_audio."}) {
    if (contains(tensor, word)) return ModelPart::kAudio;
  }
  const std::optional<std::string> name = checkpoint.canonical_text_name(tensor);
  if (!name) return ModelPart::kOther;
  if (name->starts_with("embed_tokens") || name->starts_with("lm_head"))
    return ModelPart::kEmbeddings;
  if (contains(*name, ".experts.")) return ModelPart::kExperts;
  if (contains(*name, ".router.")) return ModelPart::kRouter;
  if (contains(*name, "per_layer_")) return ModelPart::kPerLayer;
  if (contains(*name, "norm") || name->ends_with("layer_scalar")) return ModelPart::kNorms;
  if (contains(*name, ".self_attn.")) return ModelPart::kAttention;
  if (contains(*name, ".mlp.")) return ModelPart::kMlp;
  return ModelPart::kOther;
}

/// Every element as double; empty for element types no scale has.
std::vector<double> scale_values(const TensorInfo& info) {
  std::vector<double> values(info.n_elements());
  for (std::size_t i = 0; i < values.size(); ++i) {
    const std::byte* at = info.bytes.data() + i * dtype_bytes(info.dtype);
    std::uint32_t word = 0;
    std::uint16_t half = 0;
    switch (info.dtype) {
      case DType::kF32:
        std::memcpy(&word, at, 4);
        values[i] = std::bit_cast<float>(word);
        break;
      case DType::kBF16:
        std::memcpy(&half, at, 2);
        values[i] = static_cast<float>(BF16::from_bits(half));
        break;
      case DType::kF16:
        std::memcpy(&half, at, 2);
        values[i] = f16_to_float(half);
        break;
      default:
        return {};
    }
  }
  return values;
}

void add(TensorTotals& totals, const TensorInfo& info) {
  ++totals.n_tensors;
  totals.n_elements += info.n_elements();
  totals.bytes += info.bytes.size();
}

/// "layers.3.experts.7.gate_proj.input_scale" -> (3, 7).
std::optional<ExpertId> expert_of(std::string_view canonical) {
  ExpertId id;
  const auto number = [&](std::string_view before, int& out) {
    if (!canonical.starts_with(before)) return false;
    canonical.remove_prefix(before.size());
    const auto [end, error] =
        std::from_chars(canonical.data(), canonical.data() + canonical.size(), out);
    if (error != std::errc()) return false;
    canonical.remove_prefix(static_cast<std::size_t>(end - canonical.data()));
    return true;
  };
  if (!number("layers.", id.layer) || !number(".experts.", id.expert)) return std::nullopt;
  return id;
}

bool is_placeholder(double scale) {
  const auto value = static_cast<float>(scale);
  return value == 1.0f / 28.0f || value == 1.0f / 448.0f || value == 0.5f / 448.0f;
}

/// Static FP8 with per-expert tensors: which experts' input scales say that no input was seen.
std::optional<std::vector<ExpertId>> find_uncalibrated(const Checkpoint& checkpoint) {
  const std::optional<QuantizationConfig>& quantization = checkpoint.config().quantization;
  if (!quantization || quantization->activations != ActivationScheme::kStatic) return std::nullopt;
  std::set<ExpertId> uncalibrated;
  bool any_expert = false;
  for (const CheckpointTensor& tensor : checkpoint.tensors()) {
    if (tensor.info->dtype != DType::kF8E4M3 || !tensor.info->name.ends_with(".weight")) continue;
    const std::optional<std::string> name = checkpoint.canonical_text_name(tensor.info->name);
    const std::optional<ExpertId> id = name ? expert_of(*name) : std::nullopt;
    if (!id) continue;
    any_expert = true;
    const std::string module =
        tensor.info->name.substr(0, tensor.info->name.size() - std::string_view("weight").size());
    const TensorInfo* scale = checkpoint.find(module + "input_scale");
    const std::vector<double> values =
        scale == nullptr ? std::vector<double>{} : scale_values(*scale);
    if (values.empty() || is_placeholder(values.front())) uncalibrated.insert(*id);
  }
  if (!any_expert) return std::nullopt;
  return std::vector<ExpertId>(uncalibrated.begin(), uncalibrated.end());
}

std::vector<ScaleSummary> summarise_scales(const Checkpoint& checkpoint) {
  std::map<std::pair<std::string, ModelPart>, std::vector<double>> groups;
  for (const CheckpointTensor& tensor : checkpoint.tensors()) {
    const std::string_view kind = scale_kind(tensor.info->name);
    if (kind.empty()) continue;
    std::vector<double>& group =
        groups[{std::string(kind), part_by_owner(checkpoint, tensor.info->name)}];
    const std::vector<double> values = scale_values(*tensor.info);
    group.insert(group.end(), values.begin(), values.end());
  }
  std::vector<ScaleSummary> summaries;
  for (auto& [key, values] : groups) {
    ScaleSummary summary{.kind = key.first, .part = key.second, .n_values = values.size()};
    summary.n_bad =
        std::erase_if(values, [](double value) { return !(std::isfinite(value) && value > 0.0); });
    if (!values.empty()) {
      std::ranges::sort(values);
      summary.min = values.front();
      summary.median = (values[(values.size() - 1) / 2] + values[values.size() / 2]) / 2;
      summary.max = values.back();
    }
    summaries.push_back(std::move(summary));
  }
  return summaries;
}

}  // namespace

std::string_view model_part_name(ModelPart part) {
  return kPartNames[static_cast<std::size_t>(part)];
}

ModelPart part_of(const Checkpoint& checkpoint, std::string_view tensor) {
  return scale_kind(tensor).empty() ? part_by_owner(checkpoint, tensor) : ModelPart::kScales;
}

CheckpointSummary summarise(const Checkpoint& checkpoint) {
  CheckpointSummary summary;
  for (const CheckpointTensor& tensor : checkpoint.tensors()) {
    const ModelPart part = part_of(checkpoint, tensor.info->name);
    add(summary.all, *tensor.info);
    add(summary.parts[part], *tensor.info);
    add(summary.dtypes[tensor.info->dtype], *tensor.info);
    if (part != ModelPart::kScales) summary.n_parameters += tensor.info->n_elements();
  }
  summary.scales = summarise_scales(checkpoint);
  summary.uncalibrated_experts = find_uncalibrated(checkpoint);
  return summary;
}

std::string format_name(const Checkpoint& checkpoint) {
  if (const std::optional<QuantizationConfig>& quantization = checkpoint.config().quantization) {
    const std::string detail = quantization->format.empty()
                                   ? std::string(activation_scheme_name(quantization->activations))
                                   : quantization->format;
    return fmt::format("{} {}", quantization->method_name, detail);
  }
  std::map<DType, std::uint64_t> bytes;
  for (const CheckpointTensor& tensor : checkpoint.tensors())
    bytes[tensor.info->dtype] += tensor.info->bytes.size();
  const auto most =
      std::ranges::max_element(bytes, {}, [](const auto& entry) { return entry.second; });
  if (most == bytes.end()) return "empty";
  std::string name(dtype_name(most->first));
  for (char& c : name) c = static_cast<char>(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
  return name;
}

}  // namespace gem8
