#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "formats/checkpoint.h"
#include "foundation/json/json.h"

namespace gem8 {

/// What a tensor is for, by its name.
enum class ModelPart {
  kExperts,
  kAttention,
  kMlp,
  kEmbeddings,
  kPerLayer,
  kRouter,
  kNorms,
  kScales,
  kVision,
  kAudio,
  kOther
};

std::string_view model_part_name(ModelPart part);  ///< "experts", ...

/// Quantisation scales (weight_scale, input_scale, k_scale, ...) are kScales whatever they belong
/// to; the router's own `scale` and `per_expert_scale` are kRouter, layer_scalar is kNorms.
ModelPart part_of(const Checkpoint& checkpoint, std::string_view tensor);

struct TensorTotals {
  std::uint64_t n_tensors = 0;
  std::uint64_t n_elements = 0;
  std::uint64_t bytes = 0;
};

/// All scales of one kind that belong to one part: "input_scale" of the experts.
struct ScaleSummary {
  std::string kind;  ///< the tensor's last name
  ModelPart part = ModelPart::kOther;
  std::uint64_t n_values = 0;
  std::uint64_t n_bad = 0;  ///< not finite, or not positive; left out of the three below
  double min = 0.0, median = 0.0, max = 0.0;
};

struct ExpertId {
  int layer = 0;
  int expert = 0;
  friend auto operator<=>(const ExpertId&, const ExpertId&) = default;
};

/// What is in a checkpoint, counted. Reads headers and scales only, never weights.
struct CheckpointSummary {
  TensorTotals all;
  std::uint64_t n_parameters = 0;  ///< elements that are no scales
  std::map<ModelPart, TensorTotals> parts;
  std::map<DType, TensorTotals> dtypes;
  std::vector<ScaleSummary> scales;
  /// Static FP8 experts whose input_scale is missing or a placeholder other tools write for inputs
  /// they never saw (AutoFP8 1/28 and 1/448, ModelOpt 0.5/448). nullopt: the checkpoint has no
  /// static expert scales to tell by.
  std::optional<std::vector<ExpertId>> uncalibrated_experts;
};

CheckpointSummary summarise(const Checkpoint& checkpoint);

/// "bf16", "fp8 static", "compressed-tensors float-quantized", ...
std::string format_name(const Checkpoint& checkpoint);

/// The document of `gem8 inspect --format json`; `with_tensors` lists every tensor.
Json summary_json(const Checkpoint& checkpoint, const CheckpointSummary& summary,
                  bool with_tensors);
/// The same for people.
std::string summary_text(const Checkpoint& checkpoint, const CheckpointSummary& summary,
                         bool with_tensors);

}  // namespace gem8
