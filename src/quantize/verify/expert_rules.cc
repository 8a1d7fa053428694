// V-01, V-09, V-10, V-27, V-28: the experts.
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <set>

#include "quantize/verify/rules.h"

namespace gem8::verify {

namespace {

bool is_quantised(const Subject& subject) {
  return subject.quantization.format != Quantization::Format::kNone;
}

/// The id in "experts.<id>.rest" (or "moe.experts.<id>.rest"), what stands after it in `rest`.
std::optional<std::int64_t> expert_id(std::string_view name, std::string_view& rest) {
  if (name.starts_with("moe.")) name.remove_prefix(4);
  if (!name.starts_with("experts.")) return std::nullopt;
  name.remove_prefix(8);
  std::int64_t id = 0;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), id);
  if (error != std::errc() || end == name.data() + name.size() || *end != '.') return std::nullopt;
  rest = name.substr(static_cast<std::size_t>(end - name.data()) + 1);
  return id;
}

/// Fused tensors "experts.gate_up_proj", "experts.down_proj" and whatever belongs to them.
void check_fused(const Subject& subject, const Stored& stored, std::string_view rest,
                 const LoaderNames& names, std::int32_t layer, Findings& findings) {
  const bool weight = rest == "experts.gate_up_proj" || rest == "experts.down_proj" ||
                      rest == "experts.gate_up_proj.weight" || rest == "experts.down_proj.weight";
  const std::string file = subject.file_of(stored);
  if (!weight) {
    const bool per_channel =
        stored.info != nullptr && stored.info->shape.size() == 3 &&
        subject.quantization.format == Quantization::Format::kCompressedTensors;
    if (!per_channel) {
      findings.error(
          27, stored.name, file,
          fmt::format("shape {}: scales of fused experts reach no engine's parameter",
                      stored.info != nullptr ? shape_text(stored.info->shape) : "unknown"));
    }
    return;
  }
  if (stored.info == nullptr) return;
  const DType dtype = stored.info->dtype;
  if (dtype == DType::kF8E4M3) {
    const bool per_channel =
        subject.quantization.format == Quantization::Format::kCompressedTensors &&
        subject.quantization.weight_strategy == "channel";
    if (!per_channel) {
      findings.error(
          27, stored.name, file,
          "F8_E4M3 experts in one fused tensor: one scale per projection needs them one by one");
    }
  } else if (dtype_bytes(dtype) > 1 && names.experts(layer) == Skipped::kNo) {
    findings.error(
        1, stored.name, file,
        fmt::format("fused experts in {} under an FP8 config: cast to F8_E4M3 without a scale",
                    dtype_name(dtype)));
  }
}

}  // namespace

void check_experts(const Subject& subject, const LoaderNames& names, Findings& findings) {
  if (!subject.model || !is_quantised(subject)) return;
  const std::int64_t experts = subject.model->text.n_experts;
  std::set<std::pair<std::int32_t, std::int64_t>> beyond;
  std::set<std::string> bare_layers;
  std::set<std::int32_t> moe_layers;
  for (const Stored& stored : subject.tensors) {
    std::string_view rest;
    const auto layer = subject.layer_of(stored.name, &rest);
    if (!layer) continue;
    std::string_view tail;
    const auto id = expert_id(rest, tail);
    if (!id) {
      if (rest.starts_with("experts.")) check_fused(subject, stored, rest, names, *layer, findings);
      continue;
    }
    if (rest.starts_with("moe.") && moe_layers.insert(*layer).second) {
      findings.error(
          28, stored.name, subject.file_of(stored),
          fmt::format("layer {} spells '.moe.experts.': current engines read '.experts.' only",
                      *layer));
    }
    if (tail == "gate_proj" || tail == "up_proj" || tail == "down_proj") {
      findings.error(28, stored.name, subject.file_of(stored),
                     "an expert's weight without '.weight': engines drop it without a word");
    }
    if ((*id < 0 || *id >= experts) && beyond.insert({*layer, *id}).second) {
      findings.error(9, stored.name, subject.file_of(stored),
                     fmt::format("expert {}, the config has experts 0 to {}", *id, experts - 1));
    }
  }

  const bool is_static = subject.quantization.scheme == Quantization::Scheme::kStatic;
  for (const LinearState& state : subject.linears) {
    if (state.group->expert < 0) continue;
    if (state.weight == nullptr) {
      findings.error(
          9, state.module + ".weight", {},
          fmt::format("layer {} lacks {} of expert {}: engines leave its memory uninitialised",
                      state.group->layer, state.linear->projection, state.group->expert));
      continue;
    }
    if (state.in_fused_3d) continue;
    const std::string file = subject.file_of(*state.weight);
    if (state.is_float() && names.experts(state.group->layer) == Skipped::kNo) {
      findings.error(1, state.weight->name, file,
                     fmt::format("{} under an FP8 config: cast to F8_E4M3 without a scale",
                                 dtype_name(state.weight->info->dtype)));
    }
    if (is_static && state.is_fp8() && state.input_scale == nullptr) {
      findings.error(10, state.weight->name, file,
                     "no input_scale: the whole layer's experts would fall back to 1.0");
    }
  }
}

}  // namespace gem8::verify
