#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "quantize/verify/subject.h"

namespace gem8::verify {

/// How an engine that loads the checkpoint would treat one of its modules.
enum class Skipped {
  kNo,    ///< made for FP8
  kYes,   ///< left unquantised
  kSome,  ///< some shards of a fused module are listed, others not: refused
};

/// The ignore list as vLLM reads it: entries are rewritten from Hugging Face names to the engine's
/// module paths, then matched against them; by equality in format A, with anchored regular
/// expressions as well in format B, with wildcards in ModelOpt's. Source: vLLM 0.32
/// (hf_to_vllm_mapper of Gemma4ForConditionalGeneration, is_layer_skipped, should_ignore_layer).
class LoaderNames {
 public:
  explicit LoaderNames(const Subject& subject);

  /// One fused group: {q, k, v} (v even where the file has none), {gate, up}, or a linear alone.
  /// `part` is "self_attn" or "mlp", `projections` the members' names.
  Skipped dense(std::int32_t layer, std::string_view part,
                const std::vector<std::string_view>& projections) const;
  /// All experts of a layer together.
  Skipped experts(std::int32_t layer) const;
  /// A module given by its stored name ("model.vision_tower...linear"), never fused.
  bool lists(std::string_view stored_name) const;
  /// Whether any of the list's entries is a regular expression.
  bool has_regex() const { return has_regex_; }

 private:
  std::string path(std::string_view stored_name) const;
  bool matches(std::string_view path) const;
  Skipped fused(const std::string& whole, const std::vector<std::string>& shards) const;

  Quantization::Format format_;
  bool text_only_ = false;
  bool has_regex_ = false;
  std::vector<std::string> entries_;  ///< mapped
  std::string layers_;                ///< "language_model.model.layers."
};

}  // namespace gem8::verify
