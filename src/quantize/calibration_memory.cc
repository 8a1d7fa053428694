#include "quantize/calibration_memory.h"

#include <algorithm>

#include "formats/model_config.h"
#include "quantize/shard_writer.h"

namespace gem8 {
namespace {

/// Tokenizer and template of the largest vocabulary, samples, code: measured at 0.2 GiB.
constexpr std::uint64_t kProgramBytes = std::uint64_t{256} << 20;

std::uint64_t largest_layer_bytes(const Checkpoint& source) {
  std::vector<std::uint64_t> layers(static_cast<std::size_t>(source.config().text.n_layers));
  for (std::size_t i = 0; i < layers.size(); ++i) {
    const std::string prefix = fmt::format("{}layers.{}.", source.text_prefix(), i);
    const auto tensors = source.tensors();
    const auto first = std::ranges::lower_bound(
        tensors, prefix, {}, [](const CheckpointTensor& tensor) { return tensor.info->name; });
    for (auto at = first; at != tensors.end() && at->info->name.starts_with(prefix); ++at) {
      layers[i] += at->info->bytes.size();
    }
  }
  return layers.empty() ? 0 : std::ranges::max(layers);
}

/// What one token takes in the workspaces of a step, the caller's buffers and one layer's cache.
std::uint64_t bytes_per_token(const TextConfig& text, std::uint64_t activation) {
  std::int64_t q = 0, kv = 0, ffn = 0;
  for (const LayerConfig& layer : text.layers) {
    q = std::max(q, std::int64_t{text.n_heads} * layer.head_dim);
    kv = std::max(kv, std::int64_t{layer.n_kv_heads} * layer.head_dim);
    ffn = std::max(ffn, std::int64_t{layer.mlp_width});
  }
  const std::int64_t per_layer = std::int64_t{text.n_layers} * text.per_layer_hidden;
  // Hidden, normed, block, experts' sum and the caller's copy; q and its mix; k and v twice (step
  // and cache); gate and up.
  const std::int64_t values = 5 * text.hidden + 2 * q + 4 * kv + 2 * ffn + 4 * per_layer;
  // Each choice of an expert has its rows in float32 beside the activation type.
  const std::int64_t choice = text.expert_ffn + text.hidden;
  return static_cast<std::uint64_t>(values) * activation +
         static_cast<std::uint64_t>(text.top_k_experts * choice) * (activation + 4) +
         static_cast<std::uint64_t>(text.n_experts) * 4;
}

}  // namespace

CalibrationMemory calibration_memory(const Checkpoint& source, std::span<const TokenSample> samples,
                                     std::int64_t max_step_tokens, DType activation_dtype) {
  const TextConfig& text = source.config().text;
  const std::uint64_t activation = dtype_bytes(activation_dtype);
  CalibrationMemory memory{.largest_layer = largest_layer_bytes(source),
                           .fixed = 2 * kBlockBytes + kProgramBytes};
  memory.step = static_cast<std::uint64_t>(max_step_tokens) * bytes_per_token(text, activation);
  std::uint64_t tokens = 0;
  for (const TokenSample& sample : samples) tokens += sample.tokens.size();
  std::vector<bool> is_source(text.layers.size());
  for (const LayerConfig& layer : text.layers) {
    if (layer.kv_shared) is_source[static_cast<std::size_t>(layer.kv_source)] = true;
  }
  for (std::size_t i = 0; i < text.layers.size(); ++i) {
    if (!is_source[i]) continue;
    const LayerConfig& layer = text.layers[i];
    memory.shared_kv += tokens * 2 * activation * static_cast<std::uint64_t>(layer.n_kv_heads) *
                        static_cast<std::uint64_t>(layer.head_dim);
  }
  return memory;
}

Result<std::uint64_t> room_for_hidden_states(const CalibrationMemory& memory, std::uint64_t limit) {
  if (memory.total() <= limit) return limit - memory.total();
  const auto gib = [](std::uint64_t bytes) { return static_cast<double>(bytes) / (1 << 30); };
  return fail(Code::kInvalidArgument,
              "--memory: {:.2f} GiB, calibration takes {:.2f} GiB: largest layer {:.2f}, a step "
              "{:.2f} (--max-length), shared keys and values {:.2f} (--samples), everything else "
              "{:.2f}",
              gib(limit), gib(memory.total()), gib(memory.largest_layer), gib(memory.step),
              gib(memory.shared_kv), gib(memory.fixed));
}

}  // namespace gem8
