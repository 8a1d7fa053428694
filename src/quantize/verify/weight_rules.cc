// V-13, V-19, V-21 to V-26: types, shapes and contents of quantised weights.
#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <unordered_set>

#include "quantize/encode.h"
#include "quantize/verify/rules.h"

namespace gem8::verify {

namespace {

using Shape = std::vector<std::int64_t>;

bool is_other_eight_bit(DType dtype) {
  return dtype_bytes(dtype) == 1 && dtype != DType::kF8E4M3;
}

void check_values_layer(const Subject& subject, std::int32_t layer, Findings& findings) {
  const LayerConfig& config = subject.model->text.layers[static_cast<std::size_t>(layer)];
  const std::string base = fmt::format("{}layers.{}.self_attn.", subject.text_prefix, layer);
  if (!config.has_v) {
    const auto at = std::ranges::lower_bound(subject.tensors, base + "v_proj.", {}, &Stored::name);
    for (auto it = at; it != subject.tensors.end() && it->name.starts_with(base + "v_proj.");
         ++it) {
      findings.error(19, it->name, subject.file_of(*it),
                     fmt::format("layer {} takes its values from k_proj and has no v_proj", layer));
    }
  }
  for (const std::string_view name : {"q_proj", "k_proj", "v_proj"}) {
    if (name == "v_proj" && !config.has_v) continue;
    if (name != "q_proj" && config.kv_shared) continue;
    if (subject.find(base + std::string(name) + ".weight") == nullptr) {
      findings.error(
          19, base + std::string(name) + ".weight", {},
          fmt::format("layer {} lacks {}: engines leave its memory uninitialised", layer, name));
    }
  }
}

void check_scale_shape(const Subject& subject, const LinearState& state, const Stored* stored,
                       bool input, Findings& findings) {
  if (stored == nullptr || stored->info == nullptr) return;
  const TensorInfo& info = *stored->info;
  const std::string file = subject.file_of(*stored);
  if (info.dtype != DType::kF32 && info.dtype != DType::kBF16 && info.dtype != DType::kF16) {
    findings.error(25, stored->name, file,
                   fmt::format("a scale in {}, wanted F32", dtype_name(info.dtype)));
  }
  const Quantization& quantization = subject.quantization;
  if (quantization.has_block_size) return;
  const bool per_channel = !input &&
                           quantization.format == Quantization::Format::kCompressedTensors &&
                           quantization.weight_strategy == "channel";
  if (per_channel) {
    if (info.shape != Shape{state.linear->out, 1}) {
      findings.error(
          25, stored->name, file,
          fmt::format("shape {}, wanted [{}, 1]", shape_text(info.shape), state.linear->out));
    }
    return;
  }
  if (!info.shape.empty() && info.shape != Shape{1}) {
    findings.error(25, stored->name, file,
                   fmt::format("shape {}, wanted [] or [1]", shape_text(info.shape)));
  }
}

void check_linear(const Subject& subject, const LinearState& state, Findings& findings) {
  const Linear& linear = *state.linear;
  if (state.weight == nullptr) {
    // q, k, v and experts have rules of their own.
    if (state.group->expert < 0 && state.group->input != InputSite::kAttention) {
      findings.error(26, state.module + ".weight", {},
                     fmt::format("not stored, wanted shape [{}, {}]", linear.out, linear.in));
    }
    return;
  }
  check_scale_shape(subject, state, state.weight_scale, false, findings);
  check_scale_shape(subject, state, state.input_scale, true, findings);
  if (state.weight->info == nullptr) return;
  const TensorInfo& info = *state.weight->info;
  const std::string file = subject.file_of(*state.weight);
  if (is_other_eight_bit(info.dtype)) {
    findings.error(
        22, state.weight->name, file,
        fmt::format("{}, wanted F8_E4M3: engines convert it by value", dtype_name(info.dtype)));
  }
  if (state.in_fused_3d) {
    const std::int64_t experts = subject.model->text.n_experts;
    const std::int64_t rows =
        state.group->input == InputSite::kExpertsDown ? linear.out : 2 * linear.out;
    if (info.shape != Shape{experts, rows, linear.in} && state.group->expert == 0 &&
        linear.projection != "up_proj") {
      findings.error(26, state.weight->name, file,
                     fmt::format("shape {}, wanted [{}, {}, {}]", shape_text(info.shape), experts,
                                 rows, linear.in));
    }
    return;
  }
  if (info.shape == Shape{linear.out, linear.in}) return;
  const bool transposed = info.shape == Shape{linear.in, linear.out};
  findings.error(26, state.weight->name, file,
                 fmt::format("shape {}, wanted [{}, {}]{}", shape_text(info.shape), linear.out,
                             linear.in, transposed ? ": stored transposed" : ""));
}

/// What the scan of one quantised weight found.
struct Scan {
  std::uint8_t largest = 0;  ///< magnitude code, NaN left out
  std::size_t nan_codes = 0;
  std::size_t first_nan = 0;
  bool compared = false;
  WeightError error;  ///< against the source
  double twin_cosine =
      0.0;  ///< likeness to the other half of a gate/up pair, where its own is poor
};

double cosine(const WeightError& error) {
  const double norm = std::sqrt(error.original_square * error.stored_square);
  return norm > 0.0 ? error.product / norm : 1.0;
}

Scan scan_weight(const Subject& subject, const LinearState& state) {
  Scan scan;
  const TensorInfo& info = *state.weight->info;
  scan.largest = largest_code(info.bytes);
  if (scan.largest == 0x7f) {
    scan.largest = 0;
    for (std::size_t i = 0; i < info.bytes.size(); ++i) {
      const auto magnitude = static_cast<std::uint8_t>(info.bytes[i]) & 0x7fu;
      if (magnitude == 0x7fu) {
        if (scan.nan_codes++ == 0) scan.first_nan = i;
      } else {
        scan.largest = std::max(scan.largest, static_cast<std::uint8_t>(magnitude));
      }
    }
  }
  const auto scale = Subject::scalar(state.weight_scale);
  if (subject.source == nullptr || !scale || !subject.model) return scan;
  if (info.shape != Shape{state.linear->out, state.linear->in}) return scan;
  const TextConfig& text = subject.source->config().text;
  const auto original = find_weight(*subject.source, text, *state.group, *state.linear);
  if (!original || !is_weight_dtype(original->dtype)) return scan;
  if (original->bytes.size() != info.bytes.size() * dtype_bytes(original->dtype)) return scan;
  scan.error = weight_error(info.bytes, *scale, original->dtype, original->bytes);
  scan.compared = true;
  if (cosine(scan.error) < 0.5) {
    for (const Linear& twin : state.group->members) {
      if (twin.name == state.linear->name || twin.out != state.linear->out) continue;
      const auto other = find_weight(*subject.source, text, *state.group, twin);
      if (!other || other->bytes.size() != original->bytes.size()) continue;
      scan.twin_cosine = std::max(
          scan.twin_cosine, cosine(weight_error(info.bytes, *scale, other->dtype, other->bytes)));
    }
  }
  return scan;
}

void report_scan(const Subject& subject, const LinearState& state, const Scan& scan,
                 Findings& findings) {
  const std::string& name = state.weight->name;
  const std::string file = subject.file_of(*state.weight);
  if (scan.compared && scan.error.original_square > 0.0) {
    const double like = cosine(scan.error);
    // Least squares: what the stored weights would have to be multiplied with to fit the source.
    const double fit =
        scan.error.stored_square > 0.0 ? scan.error.product / scan.error.stored_square : 0.0;
    const double relative = std::sqrt(scan.error.error_square / scan.error.original_square);
    if (like < 0.5 || !std::isfinite(like)) {
      findings.error(26, name, file,
                     scan.twin_cosine > 0.9
                         ? "holds the source's other half: gate and up are exchanged"
                         : fmt::format("does not resemble the source (cosine {:.3f})", like));
    }
    // Rounding gives 2.66 % for one pass and 3.8 % for two; a fit beyond 1 % is no rounding.
    if (relative > 0.05 || std::abs(fit - 1.0) > 0.01 || !std::isfinite(relative)) {
      findings.error(
          24, name, file,
          fmt::format("relative RMS error {:.4f} against the source, best fit at {:.4f} times "
                      "the stored scale",
                      relative, fit));
    }
  } else if (scan.compared && scan.error.stored_square > 0.0) {
    findings.error(24, name, file, "the source's weight is all zero, these are not");
  }
  const auto scale = Subject::scalar(state.weight_scale);
  if (!scale || !std::isfinite(*scale) || *scale <= 0.0f) return;
  if (*scale < 1e-10f) {
    const std::string scale_file = subject.file_of(*state.weight_scale);
    if (scan.largest > 0) {
      findings.error(13, state.weight_scale->name, scale_file,
                     fmt::format("{}: the weights it scales vanish", *scale));
    } else {
      findings.warning(13, state.weight_scale->name, scale_file,
                       fmt::format("{} on an all-zero weight: some kernels divide by it", *scale));
    }
  }
  if (scan.largest == 0) return;
  const float amax = kE4M3Values[scan.largest] * *scale;
  if (*scale > 1.0f) {
    findings.error(24, state.weight_scale->name, subject.file_of(*state.weight_scale),
                   fmt::format("{}: above 1, a reciprocal was stored", *scale));
  } else if (amax < 1e-6f || amax > 1e3f) {
    findings.error(24, name, file,
                   fmt::format("largest dequantised weight {}: no weight of this model", amax));
  } else if (amax < 1e-3f || amax > 10.0f) {
    findings.warning(24, name, file,
                     fmt::format("largest dequantised weight {}, expected 1e-3 to 10", amax));
  }
}

}  // namespace

void check_shapes(const Subject& subject, Findings& findings) {
  for (const File& file : subject.files) {
    for (const ContainerFinding& finding : file.report.findings) {
      if (finding.fault == ContainerFault::kUnknownDType) {
        findings.error(22, finding.tensor, file.name, finding.message);
      }
    }
  }
  if (!subject.model) return;
  for (std::int32_t layer = 0; layer < subject.model->text.n_layers; ++layer) {
    check_values_layer(subject, layer, findings);
  }
  for (const LinearState& state : subject.linears) check_linear(subject, state, findings);
}

void check_codes(const Subject& subject, ThreadPool& pool, Findings& findings) {
  // Every FP8 tensor is scanned for NaN; those of linears are compared as well.
  std::vector<const LinearState*> states;
  for (const LinearState& state : subject.linears) {
    if (state.is_fp8() && !state.in_fused_3d) states.push_back(&state);
  }
  std::vector<Scan> scans(states.size());
  pool.parallel_for(states.size(), [&](std::size_t i, std::size_t) {
    const LinearState& state = *states[i];
    scans[i] = scan_weight(subject, state);
    subject.release(*state.weight);
    if (subject.source == nullptr || !subject.model) return;
    const TextConfig& text = subject.source->config().text;
    if (const auto original = find_weight(*subject.source, text, *state.group, *state.linear)) {
      subject.source->release(original->bytes);
    }
  });

  std::unordered_set<const Stored*> scanned;
  for (const LinearState* const state : states) scanned.insert(state->weight);
  std::vector<const Stored*> others;
  for (const Stored& stored : subject.tensors) {
    if (stored.info == nullptr || stored.info->dtype != DType::kF8E4M3) continue;
    if (!scanned.contains(&stored)) others.push_back(&stored);
  }
  std::vector<std::uint8_t> largest(others.size());
  pool.parallel_for(others.size(), [&](std::size_t i, std::size_t) {
    largest[i] = largest_code(others[i]->info->bytes);
    subject.release(*others[i]);
  });
  for (std::size_t i = 0; i < others.size(); ++i) {
    if (largest[i] == 0x7f) {
      findings.error(21, others[i]->name, subject.file_of(*others[i]), "holds NaN codes");
    }
  }

  for (std::size_t i = 0; i < states.size(); ++i) {
    const LinearState& state = *states[i];
    if (scans[i].nan_codes > 0) {
      findings.error(
          21, state.weight->name, subject.file_of(*state.weight),
          fmt::format("{} NaN codes, the first at {}", scans[i].nan_codes, scans[i].first_nan));
    }
    report_scan(subject, state, scans[i], findings);
  }

  // One member of each set that shares a scale must reach the top of the range.
  for (std::size_t i = 0; i < states.size(); ++i) {
    const auto scale = Subject::scalar(states[i]->weight_scale);
    std::uint8_t top = 0;
    bool first_of_set = true;
    for (std::size_t j = i; j-- > 0 && states[j]->group == states[i]->group;) {
      first_of_set &= Subject::scalar(states[j]->weight_scale) != scale;
    }
    if (!first_of_set) continue;
    for (std::size_t j = i; j < states.size() && states[j]->group == states[i]->group; ++j) {
      if (Subject::scalar(states[j]->weight_scale) == scale) top = std::max(top, scans[j].largest);
    }
    const bool zero = top == 0 && scale && std::abs(*scale - 1.0f / kE4M3Max) < 1e-9f;
    if (zero || top >= 0x7c) continue;
    findings.warning(23, states[i]->weight->name, subject.file_of(*states[i]->weight),
                     fmt::format("the largest code is {} of 448{}", kE4M3Values[top],
                                 top < 0x60 ? ": a wrong scale, or values cast without one" : ""));
  }
}

}  // namespace gem8::verify
