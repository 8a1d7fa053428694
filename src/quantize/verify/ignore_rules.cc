// V-05, V-17, V-18, V-33: what engines will make of the ignore list.
#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "quantize/verify/rules.h"

namespace gem8::verify {

namespace {

const char* const kConfig = "config.json";

std::string_view part_of(InputSite input) {
  return input == InputSite::kAttention || input == InputSite::kAttentionOut ? "self_attn" : "mlp";
}

struct GroupView {
  std::vector<const LinearState*> members;  ///< stored ones
  std::size_t fp8 = 0;
  std::size_t plain = 0;

  const LinearState& first() const { return *members.front(); }
};

void check_dense_group(const Subject& subject, const LinearGroup& group, const GroupView& view,
                       const LoaderNames& names, Findings& findings) {
  if (view.members.empty()) return;
  const std::string module = view.first().module;
  if (view.fp8 > 0 && view.plain > 0) {
    std::vector<std::string_view> plain;
    for (const LinearState* state : view.members) {
      if (!state->is_fp8()) plain.push_back(state->linear->projection);
    }
    findings.error(18, module, {},
                   fmt::format("a fused group of two kinds: {} not in F8_E4M3, the others are",
                               fmt::join(plain, ", ")));
    return;
  }
  for (const LinearState* state : view.members) {
    if (state->is_fp8() || (state->weight_scale == nullptr && state->input_scale == nullptr))
      continue;
    findings.error(18, state->weight->name, subject.file_of(*state->weight),
                   fmt::format("{} weight with scales: its group is half quantised",
                               dtype_name(state->weight->info->dtype)));
  }
  // The engine's module has a v shard on every layer, stored or not.
  std::vector<std::string_view> projections;
  if (group.input == InputSite::kAttention) {
    projections = {"q_proj", "k_proj", "v_proj"};
  } else {
    for (const Linear& linear : group.members) projections.push_back(linear.projection);
  }
  switch (names.dense(group.layer, part_of(group.input), projections)) {
    case Skipped::kSome:
      findings.error(18, module, kConfig,
                     fmt::format("the ignore list names some but not all of {}: engines refuse it",
                                 fmt::join(projections, ", ")));
      return;
    case Skipped::kYes:
      if (view.fp8 > 0) {
        findings.error(
            17, module, kConfig,
            "listed as ignored, but stored in F8_E4M3: its codes would be read as values");
      }
      return;
    case Skipped::kNo:
      if (view.plain > 0) {
        findings.error(
            17, module, kConfig,
            "not quantised, and no entry of the ignore list matches it: it would be cast "
            "without a scale");
      }
      return;
  }
}

void check_layer_experts(const Subject& subject, std::int32_t layer,
                         const std::vector<const LinearState*>& experts, const LoaderNames& names,
                         Findings& findings) {
  const auto fp8 = std::ranges::count_if(experts, [](const LinearState* s) { return s->is_fp8(); });
  const auto plain =
      std::ranges::count_if(experts, [](const LinearState* s) { return s->is_float(); });
  const std::string module = fmt::format("{}layers.{}.experts", subject.text_prefix, layer);
  const Skipped skipped = names.experts(layer);
  if (skipped == Skipped::kSome) {
    findings.error(18, module, kConfig,
                   "the ignore list names some projections of expert 0: engines want all or none");
  } else if (skipped == Skipped::kYes && fp8 > 0) {
    findings.error(
        17, module, kConfig,
        "the ignore list makes the whole layer's experts unquantised, but they are F8_E4M3");
  } else if (skipped == Skipped::kNo && plain > 0) {
    findings.error(
        17, module, kConfig,
        fmt::format("{} expert weights are not quantised, and no entry of the ignore list "
                    "matches the layer's experts",
                    plain));
  }
}

/// Linears outside the quantised set that other readers (or other versions) would quantise when
/// unlisted.
struct Unlisted {
  std::size_t routers = 0, towers = 0, connectors = 0, per_layer = 0;
  std::string first_tower;
};

Unlisted find_unlisted(const Subject& subject, const LoaderNames& names) {
  Unlisted result;
  for (const Stored& stored : subject.tensors) {
    if (!stored.name.ends_with(".weight") || stored.info == nullptr) continue;
    if (stored.info->shape.size() != 2 || stored.info->dtype == DType::kF8E4M3) continue;
    const std::string_view name = stored.name;
    const std::string_view module = name.substr(0, name.size() - 7);
    std::size_t* count = nullptr;
    if (module.ends_with(".router.proj")) {
      count = &result.routers;
    } else if (module.find("vision_tower.") != std::string_view::npos &&
               (module.ends_with(".linear") || module.ends_with("input_proj"))) {
      count = &result.towers;
    } else if (module.find("embed_vision.") != std::string_view::npos) {
      count = &result.connectors;
    } else if (module.ends_with("per_layer_input_gate") ||
               module.ends_with("per_layer_projection") ||
               module.ends_with("per_layer_model_projection")) {
      count = &result.per_layer;
    }
    if (count == nullptr || names.lists(module)) continue;
    *count += 1;
    if (count == &result.towers && result.first_tower.empty()) result.first_tower = stored.name;
  }
  return result;
}

void check_gate_without_up(const Subject& subject, Findings& findings) {
  const auto& ignored = subject.quantization.ignored;
  const std::set<std::string_view> listed(ignored.begin(), ignored.end());
  for (const std::string& entry : ignored) {
    const auto at = entry.rfind("gate_proj");
    if (at == std::string::npos || entry.starts_with("re:")) continue;
    std::string twin = entry;
    twin.replace(at, 9, "up_proj");
    if (!listed.contains(twin)) {
      findings.error(33, entry, kConfig,
                     fmt::format("gate_proj is in the ignore list without '{}'", twin));
    }
  }
}

}  // namespace

void check_ignore_list(const Subject& subject, const LoaderNames& names, Findings& findings) {
  using Format = Quantization::Format;
  const Format format = subject.quantization.format;
  if (format == Format::kNone || format == Format::kUnknown || !subject.model) return;

  std::vector<std::vector<const LinearState*>> experts(
      static_cast<std::size_t>(subject.model->text.n_layers));
  for (std::size_t i = 0; i < subject.linears.size();) {
    const LinearGroup& group = *subject.linears[i].group;
    GroupView view;
    for (; i < subject.linears.size() && subject.linears[i].group == &group; ++i) {
      const LinearState& state = subject.linears[i];
      if (state.weight == nullptr || state.weight->info == nullptr) continue;
      if (group.expert >= 0) {
        experts[static_cast<std::size_t>(group.layer)].push_back(&state);
        continue;
      }
      view.members.push_back(&state);
      view.fp8 += state.is_fp8();
      view.plain += state.is_float();
    }
    if (group.expert < 0) check_dense_group(subject, group, view, names, findings);
  }
  for (std::size_t layer = 0; layer < experts.size(); ++layer) {
    if (experts[layer].empty()) continue;
    check_layer_experts(subject, static_cast<std::int32_t>(layer), experts[layer], names, findings);
  }

  const Unlisted unlisted = find_unlisted(subject, names);
  if (unlisted.towers > 0 && format == Format::kCompressedTensors) {
    findings.error(
        5, unlisted.first_tower, kConfig,
        fmt::format("{} unquantised linears of the tower are not in `ignore`: engines would "
                    "make FP8 parameters of them",
                    unlisted.towers));
  }
  const auto warn = [&](std::size_t count, std::string_view what) {
    if (count > 0) {
      findings.warning(17, {}, kConfig, fmt::format("{} {} not in the ignore list", count, what));
    }
  };
  warn(unlisted.routers, "router projections are");
  if (format != Format::kCompressedTensors)
    warn(unlisted.towers, "linears of the vision tower are");
  warn(unlisted.connectors, "linears of the vision connector are");
  warn(unlisted.per_layer, "linears of the per-layer embeddings are");
  if (format == Format::kFp8 && names.has_regex()) {
    findings.warning(17, {}, kConfig,
                     "the ignore list holds a regular expression (re:), which quant_method "
                     "fp8 compares as plain text");
  }
  check_gate_without_up(subject, findings);
}

}  // namespace gem8::verify
