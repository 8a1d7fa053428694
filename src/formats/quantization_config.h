#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "foundation/json/json.h"
#include "foundation/result.h"

namespace gem8 {

enum class QuantMethod {
  kFp8,                ///< AutoFP8 / vLLM "fp8": one scale per tensor; gem8 reads and writes it
  kCompressedTensors,  ///< llm-compressor; recognised, not loaded yet
  kModelOpt,           ///< NVIDIA ModelOpt; recognised, not loaded yet
  kUnknown,            ///< anything else: method_name has it
};

enum class ActivationScheme {
  kStatic,   ///< input_scale stored per linear
  kDynamic,  ///< scales computed while running
  kUnknown,  ///< fp8 without activation_scheme, or with another: activation_name has it
};

/// What one config group of compressed-tensors says of weights or activations.
struct QuantArgs {
  int num_bits = 0;
  std::string type;      ///< "float", "int"
  std::string strategy;  ///< "tensor", "channel", "token", "block", ...
  bool dynamic = false;
  bool symmetric = true;
};

struct QuantGroup {
  std::string name;
  std::vector<std::string> targets;
  std::optional<QuantArgs> weights;
  std::optional<QuantArgs> input_activations;
};

/// `quantization_config` of config.json. Reading accepts what a loader must refuse, so that inspect
/// and verify can look at it; whoever loads weights asks check_loadable() first.
struct QuantizationConfig {
  QuantMethod method = QuantMethod::kFp8;
  std::string method_name;  ///< quant_method as written
  ActivationScheme activations = ActivationScheme::kUnknown;
  std::string activation_name;  ///< activation_scheme as written; empty when absent
  /// Modules kept unquantised, as written: ignored_layers, else modules_to_not_convert (fp8);
  /// ignore (compressed-tensors); exclude_modules or ignore (ModelOpt).
  std::vector<std::string> ignored;
  std::vector<QuantGroup> groups;      ///< compressed-tensors and ModelOpt
  bool has_weight_block_size = false;  ///< fp8: block-wise scales were asked for
  bool has_kv_cache_scheme = false;    ///< the cache is meant to be FP8
  std::string format;                  ///< compressed-tensors "format", ModelOpt "quant_algo"
  Json raw;

  /// Errors: kUnsupported, naming what was found and what gem8 loads, unless this is per-tensor
  /// fp8, static or dynamic.
  Status check_loadable() const;
};

/// Errors: kCorrupt for mistyped members or no quant_method. Unknown values are kept: see
/// check_loadable(). Source: vLLM fp8.py, compressed_tensors.py, modelopt.py as of August 2026.
Result<QuantizationConfig> parse_quantization_config(const Json& value);

std::string_view quant_method_name(QuantMethod method);            ///< "fp8", ...
std::string_view activation_scheme_name(ActivationScheme scheme);  ///< "static", "dynamic"

}  // namespace gem8
