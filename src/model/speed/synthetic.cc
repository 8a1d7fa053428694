#include "model/speed/synthetic.h"

#include <cmath>
#include <cstring>

#include "backend/device.h"

namespace gem8 {
namespace {

constexpr std::int64_t kHidden = 2816;
constexpr std::int64_t kExpertFfn = 704;
constexpr std::int64_t kFfn = 2112;
constexpr std::int64_t kExperts = 128;
constexpr std::int64_t kHeads = 16;
constexpr std::int64_t kVocab = 262144;
constexpr int kRealLayers = 30;

constexpr std::int64_t kVisionHidden = 1152;
constexpr std::int64_t kVisionFfn = 4304;
constexpr std::int64_t kVisionHeads = 16;
constexpr std::int64_t kVisionHeadDim = 72;
constexpr std::int64_t kVisionPositions = 10240;
constexpr std::int64_t kPatchValues = 768;
constexpr int kRealVisionLayers = 27;

constexpr bool is_full(int layer, int n_layers) {
  return layer % 6 == 5 || layer == n_layers - 1;
}

Json vision_config_json(int n_layers) {
  return Json::object({{"model_type", "gemma4_vision"},
                       {"hidden_size", kVisionHidden},
                       {"intermediate_size", kVisionFfn},
                       {"num_hidden_layers", n_layers},
                       {"num_attention_heads", kVisionHeads},
                       {"num_key_value_heads", kVisionHeads},
                       {"head_dim", kVisionHeadDim},
                       {"patch_size", 16},
                       {"pooling_kernel_size", 3},
                       {"position_embedding_size", kVisionPositions},
                       {"rope_parameters", Json::object({{"rope_theta", 100.0}})},
                       {"use_clipped_linears", false},
                       {"standardize", true}});
}

Json config_json(int n_layers, int n_vision_layers) {
  Json types = Json::array();
  for (int i = 0; i < n_layers; ++i)
    types.push_back(is_full(i, n_layers) ? "full_attention" : "sliding_attention");
  Json config =
      Json::object({{"architectures", Json::array({"Gemma4ForConditionalGeneration"})},
                    {"model_type", "gemma4"},
                    {"text_config", Json::object({{"model_type", "gemma4_text"},
                                                  {"vocab_size", kVocab},
                                                  {"hidden_size", kHidden},
                                                  {"intermediate_size", kFfn},
                                                  {"num_hidden_layers", n_layers},
                                                  {"num_attention_heads", kHeads},
                                                  {"num_key_value_heads", 8},
                                                  {"num_global_key_value_heads", 2},
                                                  {"head_dim", 256},
                                                  {"global_head_dim", 512},
                                                  {"attention_k_eq_v", true},
                                                  {"sliding_window", 1024},
                                                  {"layer_types", types},
                                                  {"final_logit_softcapping", 30.0},
                                                  {"hidden_size_per_layer_input", 0},
                                                  {"enable_moe_block", true},
                                                  {"num_experts", kExperts},
                                                  {"top_k_experts", 8},
                                                  {"moe_intermediate_size", kExpertFfn},
                                                  {"max_position_embeddings", 262144}})},
                    {"quantization_config",
                     Json::object({{"quant_method", "fp8"}, {"activation_scheme", "static"}})}});
  if (n_vision_layers > 0) config.set("vision_config", vision_config_json(n_vision_layers));
  return config;
}

/// Hands out pieces of one allocation after all sizes are known.
class Arena {
 public:
  void add(std::string name, DType dtype, std::vector<std::int64_t> shape) {
    std::size_t bytes = dtype_bytes(dtype);
    for (const std::int64_t side : shape) bytes *= static_cast<std::size_t>(side);
    tensors_.push_back({std::move(name), dtype, std::move(shape), {}});
    sizes_.push_back(bytes);
    total_ += (bytes + kAlign - 1) / kAlign * kAlign;
  }

  /// Quantised linear with its scales: uniform finite codes have an RMS of about 129, so this scale
  /// gives rows of unit gain.
  void add_linear(const std::string& module, std::int64_t out, std::int64_t in) {
    add(module + ".weight", DType::kF8E4M3, {out, in});
    scales_.push_back(
        {tensors_.size(), static_cast<float>(1.0 / (129.0 * std::sqrt(static_cast<double>(in))))});
    add(module + ".weight_scale", DType::kF32, {});
    scales_.push_back({tensors_.size(), 0.05f});
    add(module + ".input_scale", DType::kF32, {});
  }

  /// The memory is the device's, huge pages where the system has them: what the read ceiling is
  /// probed on too.
  Result<std::shared_ptr<const void>> fill(ThreadPool& pool) {
    auto memory = std::make_shared<Memory>();
    GEM8_TRY(memory->buffer, memory->device->allocate(total_));
    auto* at = static_cast<std::byte*>(memory->buffer.address());
    for (std::size_t i = 0; i < tensors_.size(); ++i) {
      tensors_[i].bytes = {at, sizes_[i]};
      at += (sizes_[i] + kAlign - 1) / kAlign * kAlign;
    }
    pool.parallel_for(tensors_.size(),
                      [&](std::size_t i, std::size_t) { fill_tensor(tensors_[i], i); });
    for (const auto& [index, value] : scales_)
      std::memcpy(const_cast<std::byte*>(tensors_[index].bytes.data()), &value, sizeof value);
    return memory;
  }

  std::vector<TensorInfo> take() { return std::move(tensors_); }

 private:
  static constexpr std::size_t kAlign = 64;
  struct Memory {
    std::unique_ptr<Device> device = make_cpu_device();
    Buffer buffer;  ///< goes before the device
  };
  struct Scale {
    std::size_t tensor;
    float value;
  };

  static void fill_tensor(const TensorInfo& tensor, std::uint64_t seed) {
    std::uint64_t state = seed * 0x9e3779b97f4a7c15u + 1;
    const auto next = [&] {
      state ^= state << 13;
      state ^= state >> 7;
      state ^= state << 17;
      return state;
    };
    auto* bytes = const_cast<std::byte*>(tensor.bytes.data());
    if (tensor.dtype == DType::kF8E4M3) {
      auto* words = reinterpret_cast<std::uint64_t*>(bytes);
      for (std::size_t i = 0; i < tensor.bytes.size() / 8; ++i) {
        // Clearing bit 0 of codes 0x7f and 0xff alone would need a test; clearing it everywhere
        // leaves 127 of 254 values.
        words[i] = next() & 0xfefefefefefefefeu;
      }
    } else if (tensor.dtype == DType::kBF16) {
      auto* values = reinterpret_cast<BF16*>(bytes);
      for (std::size_t i = 0; i < tensor.bytes.size() / 2; ++i) {
        const float unit = static_cast<float>(next() >> 40) * 0x1p-24f;  // [0, 1)
        values[i] = BF16(tensor.shape.size() == 1 ? 0.5f + unit : (unit - 0.5f) * 0.04f);
      }
    }
  }

  std::vector<TensorInfo> tensors_;
  std::vector<std::size_t> sizes_;
  std::vector<Scale> scales_;
  std::size_t total_ = 0;
};

void add_layer(Arena& arena, int i, bool full) {
  const std::string p = fmt::format("model.language_model.layers.{}.", i);
  const std::int64_t head_dim = full ? 512 : 256;
  const std::int64_t kv_heads = full ? 2 : 8;
  for (const char* norm :
       {"input_layernorm", "post_attention_layernorm", "pre_feedforward_layernorm",
        "pre_feedforward_layernorm_2", "post_feedforward_layernorm", "post_feedforward_layernorm_1",
        "post_feedforward_layernorm_2"}) {
    arena.add(p + norm + ".weight", DType::kBF16, {kHidden});
  }
  arena.add(p + "layer_scalar", DType::kBF16, {1});
  arena.add(p + "self_attn.q_norm.weight", DType::kBF16, {head_dim});
  arena.add(p + "self_attn.k_norm.weight", DType::kBF16, {head_dim});
  arena.add(p + "router.proj.weight", DType::kBF16, {kExperts, kHidden});
  arena.add(p + "router.scale", DType::kBF16, {kHidden});
  arena.add(p + "router.per_expert_scale", DType::kBF16, {kExperts});
  arena.add_linear(p + "self_attn.q_proj", kHeads * head_dim, kHidden);
  arena.add_linear(p + "self_attn.k_proj", kv_heads * head_dim, kHidden);
  if (!full) arena.add_linear(p + "self_attn.v_proj", kv_heads * head_dim, kHidden);
  arena.add_linear(p + "self_attn.o_proj", kHidden, kHeads * head_dim);
  arena.add_linear(p + "mlp.gate_proj", kFfn, kHidden);
  arena.add_linear(p + "mlp.up_proj", kFfn, kHidden);
  arena.add_linear(p + "mlp.down_proj", kHidden, kFfn);
  for (std::int64_t e = 0; e < kExperts; ++e) {
    const std::string expert = p + fmt::format("experts.{}.", e);
    arena.add_linear(expert + "gate_proj", kExpertFfn, kHidden);
    arena.add_linear(expert + "up_proj", kExpertFfn, kHidden);
    arena.add_linear(expert + "down_proj", kHidden, kExpertFfn);
  }
}

void add_tower(Arena& arena, int n_layers) {
  const std::string tower = "model.vision_tower.";
  constexpr std::int64_t kWidth = kVisionHeads * kVisionHeadDim;
  const auto add = [&](const std::string& name, std::vector<std::int64_t> shape) {
    arena.add(name, DType::kBF16, std::move(shape));
  };
  add(tower + "patch_embedder.input_proj.weight", {kVisionHidden, kPatchValues});
  add(tower + "patch_embedder.position_embedding_table", {2, kVisionPositions, kVisionHidden});
  for (int i = 0; i < n_layers; ++i) {
    const std::string p = fmt::format("{}encoder.layers.{}.", tower, i);
    for (const char* norm : {"input_layernorm", "post_attention_layernorm",
                             "pre_feedforward_layernorm", "post_feedforward_layernorm"}) {
      add(p + norm + ".weight", {kVisionHidden});
    }
    for (const char* norm : {"q_norm", "k_norm"})
      add(p + "self_attn." + norm + ".weight", {kVisionHeadDim});
    for (const char* linear : {"q_proj", "k_proj", "v_proj"})
      add(p + "self_attn." + linear + ".linear.weight", {kWidth, kVisionHidden});
    add(p + "self_attn.o_proj.linear.weight", {kVisionHidden, kWidth});
    for (const char* linear : {"gate_proj", "up_proj"})
      add(p + "mlp." + linear + ".linear.weight", {kVisionFfn, kVisionHidden});
    add(p + "mlp.down_proj.linear.weight", {kVisionHidden, kVisionFfn});
  }
  for (const char* name : {"std_bias", "std_scale"}) add(tower + name, {kVisionHidden});
  add("model.embed_vision.embedding_projection.weight", {kHidden, kVisionHidden});
}

}  // namespace

Result<std::shared_ptr<const Checkpoint>> make_synthetic_26b_a4b(int n_layers, ThreadPool& pool,
                                                                 int n_vision_layers) {
  if (n_vision_layers < 0 || n_vision_layers > kRealVisionLayers) {
    return fail(Code::kInvalidArgument, "{} layers of 26b-a4b's image tower, wanted 0 to {}",
                n_vision_layers, kRealVisionLayers);
  }
  if (n_layers < 1 || n_layers > kRealLayers) {
    return fail(Code::kInvalidArgument, "{} layers of 26b-a4b, wanted 1 to {}", n_layers,
                kRealLayers);
  }
  GEM8_TRY(ModelConfig config, parse_model_config(config_json(n_layers, n_vision_layers)));
  Arena arena;
  arena.add("model.language_model.embed_tokens.weight", DType::kBF16, {kVocab, kHidden});
  arena.add("model.language_model.norm.weight", DType::kBF16, {kHidden});
  for (int i = 0; i < n_layers; ++i) add_layer(arena, i, is_full(i, n_layers));
  if (n_vision_layers > 0) add_tower(arena, n_vision_layers);
  GEM8_TRY(auto memory, arena.fill(pool));
  GEM8_TRY(Checkpoint checkpoint,
           Checkpoint::from_tensors(std::move(config), arena.take(), std::move(memory)));
  return std::make_shared<const Checkpoint>(std::move(checkpoint));
}

}  // namespace gem8
