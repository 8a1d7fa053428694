#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "foundation/json/json.h"
#include "foundation/result.h"

namespace gem8 {

struct ModelConfig;

/// generation_config.json: how the makers sample. Absent members stay nullopt or empty.
struct GenerationConfig {
  std::vector<int> eos_token_ids;  ///< the authoritative stop set of instruction-tuned models
  std::optional<int> bos_token_id, pad_token_id;
  std::optional<bool> do_sample;
  std::optional<double> temperature, top_p, min_p, repetition_penalty;
  std::optional<int> top_k, max_new_tokens;
  std::vector<int> suppress_tokens;  ///< never sampled: -inf after the soft cap
};

/// tokenizer_config.json: special tokens by name; the template may live here or in
/// chat_template.jinja.
struct TokenizerConfig {
  std::string tokenizer_class;
  std::optional<std::string> bos_token, eos_token, pad_token, unk_token;
  std::optional<std::int64_t> model_max_length;  ///< nullopt for the "no limit" value 1e30
  std::optional<std::string> chat_template;      ///< the default one when several are named
  bool add_bos_token = true;
  Json raw;
};

/// Image part of processor_config.json (nested "image_processor") or preprocessor_config.json
/// (flat). A "size" member is ignored: conversions inject a wrong one and the model has no fixed
/// size.
struct ImageProcessorConfig {
  int patch_size = 16;
  int pooling_kernel_size = 3;
  int max_soft_tokens = 280;  ///< 70, 140, 280, 560 or 1120
  bool do_convert_rgb = true;
  bool do_resize = true;
  bool do_rescale = true;
  bool do_normalize = false;
  double rescale_factor = 1.0 / 255.0;
  int resample = 3;  ///< Pillow's numbering: 3 is bicubic
  std::vector<double> image_mean, image_std;
};

/// Errors: kCorrupt for mistyped or out-of-bounds members.
Result<GenerationConfig> parse_generation_config(const Json& value);
Result<TokenizerConfig> parse_tokenizer_config(Json value);
Result<ImageProcessorConfig> parse_image_processor_config(const Json& value);

/// The same from a checkpoint folder; a missing file gives the defaults.
Result<GenerationConfig> read_generation_config(const std::filesystem::path& dir);
Result<TokenizerConfig> read_tokenizer_config(const std::filesystem::path& dir);
Result<ImageProcessorConfig> read_image_processor_config(const std::filesystem::path& dir);

/// Soft tokens of an image at most, when nobody says otherwise: max_soft_tokens of the processor's
/// file, else vision_soft_tokens_per_image of `config`. Errors: kCorrupt for a number that is no
/// budget.
Result<int> read_image_soft_tokens(const std::filesystem::path& dir, const ModelConfig& config);

}  // namespace gem8
