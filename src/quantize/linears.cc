#include "quantize/linears.h"

#include <fmt/format.h>

#include <array>

#include "formats/checkpoint.h"
#include "formats/model_config.h"

namespace gem8 {

std::string_view input_site_name(InputSite site) {
  static constexpr std::array<std::string_view, kInputSites> kNames = {
      "attn_in", "o_in", "mlp_in", "mlp_down_in", "moe_in", "moe_down_in"};
  return kNames[static_cast<std::size_t>(site)];
}

std::vector<LinearGroup> linear_groups(const TextConfig& text, std::int32_t layer) {
  const LayerConfig& config = text.layers[static_cast<std::size_t>(layer)];
  const auto linear = [layer](std::string_view part, std::string_view projection, std::int64_t out,
                              std::int64_t in, bool optional = false) {
    return Linear{.name = fmt::format("layers.{}.{}.{}", layer, part, projection),
                  .projection = std::string(projection),
                  .out = out,
                  .in = in,
                  .optional = optional};
  };
  const std::int64_t hidden = text.hidden;
  const std::int64_t q = std::int64_t{text.n_heads} * config.head_dim;
  const std::int64_t kv = std::int64_t{config.n_kv_heads} * config.head_dim;

  std::vector<LinearGroup> groups;
  LinearGroup attention{.layer = layer, .input = InputSite::kAttention};
  attention.members.push_back(linear("self_attn", "q_proj", q, hidden));
  attention.members.push_back(linear("self_attn", "k_proj", kv, hidden, config.kv_shared));
  if (config.has_v) {
    attention.members.push_back(linear("self_attn", "v_proj", kv, hidden, config.kv_shared));
  }
  groups.push_back(std::move(attention));
  groups.push_back({.layer = layer,
                    .input = InputSite::kAttentionOut,
                    .members = {linear("self_attn", "o_proj", hidden, q)}});
  groups.push_back({.layer = layer,
                    .input = InputSite::kMlp,
                    .members = {linear("mlp", "gate_proj", config.mlp_width, hidden),
                                linear("mlp", "up_proj", config.mlp_width, hidden)}});
  groups.push_back({.layer = layer,
                    .input = InputSite::kMlpDown,
                    .members = {linear("mlp", "down_proj", hidden, config.mlp_width)}});
  for (std::int32_t expert = 0; expert < text.n_experts; ++expert) {
    const std::string part = fmt::format("experts.{}", expert);
    groups.push_back({.layer = layer,
                      .expert = expert,
                      .input = InputSite::kExperts,
                      .members = {linear(part, "gate_proj", text.expert_ffn, hidden),
                                  linear(part, "up_proj", text.expert_ffn, hidden)}});
    groups.push_back({.layer = layer,
                      .expert = expert,
                      .input = InputSite::kExpertsDown,
                      .members = {linear(part, "down_proj", hidden, text.expert_ffn)}});
  }
  return groups;
}

std::optional<StoredWeight> find_weight(const Checkpoint& checkpoint, const TextConfig& text,
                                        const LinearGroup& group, const Linear& linear) {
  using Shape = std::vector<std::int64_t>;
  if (const TensorInfo* own = checkpoint.find_text(linear.name + ".weight"); own != nullptr) {
    if (own->shape != Shape{linear.out, linear.in}) return std::nullopt;
    return StoredWeight{own->name, own->dtype, own->bytes};
  }
  if (group.expert < 0) return std::nullopt;
  const bool down = group.input == InputSite::kExpertsDown;
  const TensorInfo* fused = checkpoint.find_text(
      fmt::format("layers.{}.experts.{}", group.layer, down ? "down_proj" : "gate_up_proj"));
  const std::int64_t rows = down ? linear.out : 2 * linear.out;
  if (fused == nullptr || fused->shape != Shape{text.n_experts, rows, linear.in}) {
    return std::nullopt;
  }
  const std::size_t row_bytes = static_cast<std::size_t>(linear.in) * dtype_bytes(fused->dtype);
  const std::int64_t first =
      group.expert * rows + (linear.projection == "up_proj" ? linear.out : 0);
  return StoredWeight{fused->name, fused->dtype,
                      fused->bytes.subspan(static_cast<std::size_t>(first) * row_bytes,
                                           static_cast<std::size_t>(linear.out) * row_bytes)};
}

}  // namespace gem8
