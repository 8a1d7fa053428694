// V-06 to V-08, V-11 to V-16, V-30, V-31, V-39, V-40: which scales there are, and what they say.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "quantize/verify/rules.h"

namespace gem8::verify {

namespace {

using Format = Quantization::Format;
using Scheme = Quantization::Scheme;
const char* const kConfig = "config.json";

constexpr std::string_view kScaleSuffixes[] = {".weight_scale", ".input_scale", ".weight_scale_inv",
                                               ".input_scale_inv"};

/// Names of scales that known tools leave where nothing was measured, with their values.
struct KnownDefault {
  float value;
  std::string_view meaning;
};
constexpr KnownDefault kDefaults[] = {
    {0.0357142873108387f, "AutoFP8's value for an expert that saw no token"},
    {1.0f / 448.0f, "the value for an input that was always zero"},
    {0.5f / 448.0f, "ModelOpt's value for an uncalibrated input"},
};

const KnownDefault* known_default(float scale) {
  const auto found = std::ranges::find_if(kDefaults, [scale](const KnownDefault& known) {
    return std::abs(scale - known.value) <= 1e-6f * known.value;
  });
  return found == std::end(kDefaults) ? nullptr : &*found;
}

/// Why a scale cannot be one; empty when it can.
std::string unusable(float scale) {
  if (std::isnan(scale) || std::isinf(scale)) return "not finite";
  if (scale <= 0.0f) return "not positive";
  if (scale >= 1e4f) return "1e4 or more";
  if (scale == 1.0f) return "exactly 1.0, a placeholder";
  return {};
}

void check_value(const Subject& subject, const Stored* stored, bool input, Findings& findings) {
  const auto value = Subject::scalar(stored);
  if (!value) return;
  const std::string file = subject.file_of(*stored);
  if (const std::string why = unusable(*value); !why.empty()) {
    findings.error(11, stored->name, file, fmt::format("{}: {}", *value, why));
    return;
  }
  if (input && *value < 1e-10f) {
    findings.warning(13, stored->name, file, fmt::format("{}: vanishes", *value));
  }
  if (!input) {
    if (*value < 3e-5f) {
      findings.warning(40, stored->name, file,
                       fmt::format("{}: below 3e-5, a detour over float16 changes codes", *value));
    }
    return;
  }
  if (const KnownDefault* const known = known_default(*value)) {
    findings.warning(12, stored->name, file, fmt::format("{}: {}", *value, known->meaning));
  }
}

struct Range {
  float low = INFINITY, high = 0.0f;
  std::string low_name, high_name;

  void add(float value, const std::string& name) {
    if (value < low) low = value, low_name = name;
    if (value > high) high = value, high_name = name;
  }
};

/// What the members of one fused group say.
void check_group(const Subject& subject, std::span<const LinearState> members, Findings& findings) {
  if (members.size() < 2) return;
  const LinearGroup& group = *members.front().group;
  Range input, weight;
  for (const LinearState& state : members) {
    if (const auto value = Subject::scalar(state.input_scale); value && *value > 0.0f) {
      input.add(*value, state.input_scale->name);
    }
    if (const auto value = Subject::scalar(state.weight_scale); value && *value > 0.0f) {
      weight.add(*value, state.weight_scale->name);
    }
  }
  if (input.high > input.low) {
    const std::string message = fmt::format("{} where {} has {}: they read the same tensor",
                                            input.high, input.low_name, input.low);
    if (group.expert < 0) {
      findings.warning(15, input.high_name, {}, message);
    } else if (subject.quantization.format == Format::kCompressedTensors &&
               input.high - input.low > 1e-5f) {
      findings.error(14, input.high_name, {}, message);
    } else {
      findings.warning(14, input.high_name, {}, message);
    }
  }
  if (weight.high > weight.low) {
    const double ratio =
        std::log2(static_cast<double>(weight.high) / static_cast<double>(weight.low));
    const bool power_of_two = ratio == std::round(ratio);
    const std::string message =
        fmt::format("{} against {} of {}: engines merge the group at the larger, {}", weight.low,
                    weight.high, weight.high_name,
                    power_of_two ? "exactly, a power of two apart" : "which re-rounds these codes");
    if (power_of_two) {
      findings.note(39, weight.low_name, {}, message);
    } else {
      findings.warning(39, weight.low_name, {}, message);
    }
  }
}

bool is_linear_scale(std::string_view name, std::string_view& module) {
  for (const std::string_view suffix : kScaleSuffixes) {
    if (name.ends_with(suffix)) {
      module = name.substr(0, name.size() - suffix.size());
      return true;
    }
  }
  return false;
}

}  // namespace

void check_scale_presence(const Subject& subject, Findings& findings) {
  const Quantization& quantization = subject.quantization;
  const bool block = quantization.has_block_size;
  std::set<std::string_view> modules;
  for (const LinearState& state : subject.linears) modules.insert(state.module);

  for (const Stored& stored : subject.tensors) {
    std::string_view module;
    if (!is_linear_scale(stored.name, module)) continue;
    const std::string file = subject.file_of(stored);
    if (stored.name.ends_with("_inv") && !block) {
      findings.error(6, stored.name, file,
                     "a block-wise name; per-tensor scales are called weight_scale");
      continue;
    }
    const Stored* weight = subject.find(std::string(module) + ".weight");
    if (weight == nullptr) weight = subject.find(module);
    if (weight == nullptr) {
      findings.error(6, stored.name, file, "a scale whose weight is not stored");
    } else if (weight->info != nullptr && weight->info->dtype != DType::kF8E4M3) {
      findings.error(6, stored.name, file,
                     fmt::format("a scale beside a weight in {}", dtype_name(weight->info->dtype)));
    } else if (subject.model && !modules.contains(module)) {
      findings.error(6, stored.name, file, "a scale of a module that engines keep unquantised");
    }
  }

  std::set<std::string_view> expert_modules;
  for (const LinearState& state : subject.linears) {
    if (state.group->expert >= 0) expert_modules.insert(state.module);
  }
  const bool is_static = quantization.scheme == Scheme::kStatic;
  std::size_t fp8 = 0, with_input = 0;
  std::string first_without, first_with;
  for (const Stored& stored : subject.tensors) {
    if (stored.info == nullptr || stored.info->dtype != DType::kF8E4M3) continue;
    if (!stored.name.ends_with(".weight")) continue;
    const std::string module = stored.name.substr(0, stored.name.size() - 7);
    const bool scale = subject.find(module + ".weight_scale") != nullptr ||
                       (block && subject.find(module + ".weight_scale_inv") != nullptr);
    const bool input = subject.find(module + ".input_scale") != nullptr;
    const std::string file = subject.file_of(stored);
    if (!scale) findings.error(7, stored.name, file, "F8_E4M3 without a weight_scale");
    if (is_static && !input && !expert_modules.contains(module)) {
      findings.error(7, stored.name, file, "static activations, but no input_scale");
    }
    fp8 += 1;
    with_input += input;
    if (!input && first_without.empty()) first_without = stored.name;
    if (input && first_with.empty()) first_with = module + ".input_scale";
  }

  if (quantization.format == Format::kNone) return;
  switch (quantization.scheme) {
    case Scheme::kMissing:
      findings.error(8, {}, kConfig, "no activation_scheme: wanted static or dynamic");
      break;
    case Scheme::kUnknown:
      findings.error(8, {}, kConfig,
                     fmt::format("activation_scheme '{}': wanted static or dynamic",
                                 quantization.scheme_name));
      break;
    case Scheme::kStatic:
      if (with_input < fp8) {
        findings.error(
            8, first_without, {},
            fmt::format("static activations: {} of {} quantised linears have no input_scale",
                        fp8 - with_input, fp8));
      }
      break;
    case Scheme::kDynamic:
      if (with_input > 0) {
        findings.error(
            8, first_with, {},
            fmt::format("dynamic activations, yet {} linears have an input_scale", with_input));
      }
      break;
  }
}

void check_scale_values(const Subject& subject, Findings& findings) {
  for (const LinearState& state : subject.linears) {
    check_value(subject, state.weight_scale, false, findings);
    check_value(subject, state.input_scale, true, findings);
  }
  std::map<std::pair<std::int32_t, InputSite>, Range> expert_inputs;
  for (std::size_t i = 0; i < subject.linears.size();) {
    std::size_t end = i;
    while (end < subject.linears.size() && subject.linears[end].group == subject.linears[i].group)
      ++end;
    const std::span members = std::span(subject.linears).subspan(i, end - i);
    check_group(subject, members, findings);
    const LinearGroup& group = *subject.linears[i].group;
    if (group.expert >= 0) {
      for (const LinearState& state : members) {
        const auto value = Subject::scalar(state.input_scale);
        if (value && *value > 0.0f && std::isfinite(*value)) {
          expert_inputs[{group.layer, group.input}].add(*value, state.input_scale->name);
        }
      }
    }
    i = end;
  }
  for (const auto& [key, range] : expert_inputs) {
    // Within the factor, a default that nobody measured must not be the one that rules the layer.
    const bool default_rules = range.high > range.low && known_default(range.high) != nullptr;
    if (range.high <= 4.0f * range.low && !default_rules) continue;
    findings.warning(
        16, range.high_name, {},
        fmt::format("{}, {:.2f} times that of {}: the largest of layer {} is used for all{}",
                    range.high, range.high / range.low, range.low_name, key.first,
                    default_rules ? ", and this one was never measured" : ""));
  }
}

void check_kv_scales(const Subject& subject, Findings& findings) {
  if (!subject.model) return;
  constexpr std::string_view kKeyNames[] = {"self_attn.k_scale", "self_attn.k_proj.k_scale",
                                            "self_attn.k_proj.output_scale", "self_attn.kv_scale"};
  constexpr std::string_view kValueNames[] = {"self_attn.v_scale", "self_attn.v_proj.v_scale",
                                              "self_attn.v_proj.output_scale"};
  std::vector<std::int32_t> without;
  for (std::int32_t layer = 0; layer < subject.model->text.n_layers; ++layer) {
    const std::string base = fmt::format("{}layers.{}.", subject.text_prefix, layer);
    const auto find_any = [&](std::span<const std::string_view> names) {
      for (const std::string_view name : names) {
        if (const Stored* const stored = subject.find(base + std::string(name))) return stored;
      }
      return static_cast<const Stored*>(nullptr);
    };
    const Stored* const k = find_any(kKeyNames);
    const Stored* const v = find_any(kValueNames);
    const bool both_in_one = k != nullptr && k->name.ends_with(".kv_scale");
    if ((k == nullptr) != (v == nullptr) && !both_in_one) {
      const Stored& lone = k != nullptr ? *k : *v;
      findings.error(
          30, lone.name, subject.file_of(lone),
          fmt::format("layer {} has a scale for {} only", layer, k != nullptr ? "keys" : "values"));
    }
    if (k == nullptr && v == nullptr) without.push_back(layer);
    for (const Stored* const stored : {k, v}) {
      if (stored == nullptr || stored->info == nullptr) continue;
      if (stored->info->n_elements() != 1 || stored->info->shape.size() > 1) {
        findings.error(30, stored->name, subject.file_of(*stored),
                       fmt::format("shape {}, wanted one number", shape_text(stored->info->shape)));
        continue;
      }
      const auto value = Subject::scalar(stored);
      if (!value || !std::isfinite(*value) || *value <= 0.0f) {
        findings.error(30, stored->name, subject.file_of(*stored),
                       value ? fmt::format("{}: not finite and positive", *value) : "not a float");
      }
    }
  }
  const Quantization& quantization = subject.quantization;
  if (quantization.format == Format::kCompressedTensors && quantization.has_kv_scheme &&
      !without.empty()) {
    findings.warning(
        31, {}, kConfig,
        fmt::format("kv_cache_scheme is set, {} of {} layers have no scales: 1.0 is used",
                    without.size(), subject.model->text.n_layers));
  }
}

}  // namespace gem8::verify
