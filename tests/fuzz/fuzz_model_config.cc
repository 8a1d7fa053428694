// Any bytes as the JSON files of a checkpoint: refused, or the resolved geometry is one a model can
// have.
#include <cstdint>

#include "formats/companion_configs.h"
#include "formats/model_config.h"
#include "foundation/check.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto json = gem8::parse_json({reinterpret_cast<const char*>(data), size});
  if (!json) return 0;
  (void)gem8::parse_generation_config(*json);
  (void)gem8::parse_tokenizer_config(*json);
  (void)gem8::parse_image_processor_config(*json);
  const auto config = gem8::parse_model_config(*json);
  if (!config) return 0;
  const gem8::TextConfig& text = config->text;
  GEM8_CHECK(text.layers.size() == static_cast<std::size_t>(text.n_layers) && text.n_layers > 0);
  GEM8_CHECK(text.layers.back().full);
  for (int i = 0; i < text.n_layers; ++i) {
    const gem8::LayerConfig& layer = text.layers[static_cast<std::size_t>(i)];
    GEM8_CHECK(layer.head_dim > 0 && layer.head_dim % 2 == 0 && layer.mlp_width > 0);
    GEM8_CHECK(layer.n_kv_heads > 0 && text.n_heads % layer.n_kv_heads == 0);
    const gem8::LayerConfig& source = text.layers[static_cast<std::size_t>(layer.kv_source)];
    GEM8_CHECK(layer.kv_shared ? layer.kv_source < text.first_kv_shared() : layer.kv_source == i);
    GEM8_CHECK(source.full == layer.full && source.head_dim == layer.head_dim && !source.kv_shared);
  }
  GEM8_CHECK(text.top_k_experts <= text.n_experts);
  if (config->quantization) (void)config->quantization->check_loadable();
  return 0;
}
