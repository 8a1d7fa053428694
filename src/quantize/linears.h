#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "foundation/dtype.h"

namespace gem8 {

class Checkpoint;
struct TextConfig;

/// The six tensors of a layer that its linears read, each with one static scale. Every expert reads
/// the same input, so the maximum over all tokens is the maximum over all experts.
enum class InputSite : std::uint8_t {
  kAttention,     ///< q, k and v
  kAttentionOut,  ///< o
  kMlp,           ///< the dense MLP's gate and up
  kMlpDown,
  kExperts,  ///< every expert's gate and up
  kExpertsDown,
};
inline constexpr std::size_t kInputSites = 6;
/// "attn_in", "o_in", "mlp_in", "mlp_down_in", "moe_in", "moe_down_in".
std::string_view input_site_name(InputSite site);

/// One linear of the text decoder that FP8 checkpoints quantise.
struct Linear {
  std::string name;        ///< canonical: "layers.3.self_attn.q_proj", "layers.3.experts.7.up_proj"
  std::string projection;  ///< "q_proj", "gate_proj", ...
  std::int64_t out = 0;
  std::int64_t in = 0;
  bool optional =
      false;  ///< k and v of a layer that reads another layer's cache: files may leave them out
};

/// Linears that engines fuse into one matrix and that therefore share one weight scale:
/// {q, k, v}, {gate, up}, or one linear alone.
struct LinearGroup {
  std::int32_t layer = 0;
  std::int32_t expert = -1;  ///< -1: not an expert
  InputSite input = InputSite::kAttention;
  std::vector<Linear> members;
};

/// The groups of one layer, dense first, experts by id. Layers whose values are their keys have no
/// v.
std::vector<LinearGroup> linear_groups(const TextConfig& text, std::int32_t layer);

/// A weight as a checkpoint stores it: a whole tensor, or the slice of a fused one. The bytes look
/// into the checkpoint's mapped files and are at no particular alignment.
struct StoredWeight {
  std::string tensor;  ///< stored name, for messages
  DType dtype = DType::kBF16;
  std::span<const std::byte> bytes;
};

/// The weight [out, in] of `linear` in an unquantised checkpoint: `<name>.weight`, or for experts
/// the rows of a fused `experts.gate_up_proj` [experts, 2 * ffn, hidden] (gate first) or
/// `experts.down_proj`. nullopt when it is not stored or has another shape.
std::optional<StoredWeight> find_weight(const Checkpoint& checkpoint, const TextConfig& text,
                                        const LinearGroup& group, const Linear& linear);

}  // namespace gem8
