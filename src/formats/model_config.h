#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "formats/quantization_config.h"
#include "foundation/json/json.h"
#include "foundation/result.h"

namespace gem8 {

/// One decoder layer with everything derived: no later code looks at config keys again.
struct LayerConfig {
  bool full = false;  ///< full attention; otherwise sliding
  int head_dim = 0;
  int n_kv_heads = 0;
  bool has_v = true;       ///< false: V comes from the K projection, no v_proj is stored
  bool kv_shared = false;  ///< reuses the K/V of kv_source; owns no cache and needs no k/v tensors
  int kv_source = 0;       ///< the layer whose K/V this one reads: itself unless kv_shared
  int mlp_width = 0;       ///< of the dense MLP
};

/// Rotary embedding of one layer type. inv_freq[k] = theta^(-2k / head_dim) / factor for the first
/// partial_rotary_factor * head_dim / 2 pairs, 0 for the rest.
struct RopeConfig {
  double theta = 10000.0;
  double partial_rotary_factor = 1.0;  ///< 1 for rope_type "default"
  double factor = 1.0;                 ///< divides the frequencies ("proportional" only)
};

enum class BidirectionalAttention {
  kNone,
  kVision,  ///< tokens of one image see each other on sliding layers
  kAll,     ///< everything sees everything; no released decoder uses it
};

struct TextConfig {
  std::string model_type;  ///< "gemma4_text", "gemma4_unified_text"
  int vocab = 0;
  int hidden = 0;
  int ffn = 0;  ///< intermediate_size as written; per layer see LayerConfig::mlp_width
  int n_layers = 0;
  int n_heads = 0;
  int n_kv_heads = 0;       ///< of sliding layers
  int head_dim = 0;         ///< of sliding layers
  int global_head_dim = 0;  ///< of full layers; per layer see LayerConfig
  int sliding_window = 0;
  int max_position_embeddings = 0;
  float rms_norm_eps = 1e-6f;
  std::optional<float> final_logit_softcapping;
  bool attention_k_eq_v = false;
  bool tie_word_embeddings = true;
  bool use_double_wide_mlp = false;
  int n_kv_shared_layers = 0;
  BidirectionalAttention bidirectional = BidirectionalAttention::kNone;
  RopeConfig rope_sliding;
  RopeConfig rope_full{.theta = 1000000.0, .partial_rotary_factor = 0.25};
  std::vector<LayerConfig> layers;  ///< n_layers of them

  // Mixture of experts: all 0 when there is none.
  int n_experts = 0;
  int top_k_experts = 0;
  int expert_ffn = 0;
  bool has_experts() const { return n_experts > 0; }

  // Per-layer embeddings: both 0 when there are none.
  int per_layer_hidden = 0;  ///< P
  int per_layer_vocab = 0;
  bool has_per_layer_embeddings() const { return per_layer_hidden > 0; }

  int pad_token_id = 0;
  int bos_token_id = 2;
  std::vector<int> eos_token_ids = {1};

  /// First layer that shares K/V; n_layers when none does.
  int first_kv_shared() const { return n_layers - n_kv_shared_layers; }
};

/// The image tower ("gemma4_vision").
struct VisionConfig {
  int hidden = 0;
  int ffn = 0;
  int n_layers = 0;
  int n_heads = 0;
  int n_kv_heads = 0;
  int head_dim = 0;
  int patch_size = 16;
  int pooling_kernel_size = 3;
  int position_embedding_size = 0;  ///< positions per axis
  double rope_theta = 100.0;
  float rms_norm_eps = 1e-6f;
  bool use_clipped_linears = false;
  bool standardize = false;
  int default_output_length = 280;
};

/// Token ids of the multimodal prompt. An absent member of a multimodal config means the released
/// id, where the vocabulary is large enough for it; null means none.
struct SpecialTokenIds {
  std::optional<int> image, boi, eoi, audio, boa, eoa, video;
};

struct ModelConfig {
  std::string model_type;  ///< "gemma4", "gemma4_unified", "gemma4_text", "gemma4_unified_text"
  std::vector<std::string> architectures;
  bool text_only_class = false;  ///< text fields at top level (Gemma4ForCausalLM)
  bool unified = false;          ///< the encoder-free 12B family
  TextConfig text;
  std::optional<VisionConfig> vision;  ///< the image tower, where there is one gem8 knows
  bool has_audio = false;              ///< audio_config is present
  SpecialTokenIds tokens;
  std::vector<int>
      eos_token_ids;  ///< top level, else text_config; generation_config.json overrules
  int vision_soft_tokens_per_image = 280;
  bool tie_word_embeddings = true;
  /// Of config.json (top level, else text_config, else compression_config), else of
  /// hf_quant_config.json.
  std::optional<QuantizationConfig> quantization;
  bool quantization_in_two_places =
      false;  ///< both at top level and in text_config; top level counts
  Json raw;   ///< config.json as read, member order kept
};

/// Errors: kUnsupported for an unknown model_type, architecture, activation or rope type, naming it
/// (an unknown quantisation is not one: see QuantizationConfig::check_loadable()); kCorrupt for
/// malformed JSON and for missing, mistyped, out-of-bounds or contradictory members. Source:
/// huggingface/transformers models/gemma4/configuration_gemma4.py (5.5 to 5.19).
Result<ModelConfig> parse_model_config(Json config);
/// parse_model_config() of DIR/config.json. Errors: also kNotFound.
Result<ModelConfig> read_model_config(const std::filesystem::path& dir);

}  // namespace gem8
