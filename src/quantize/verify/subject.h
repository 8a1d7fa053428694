#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "formats/checkpoint.h"
#include "formats/model_config.h"
#include "formats/safetensors.h"
#include "formats/shard_index.h"
#include "foundation/json/json.h"
#include "foundation/result.h"
#include "quantize/linears.h"

namespace gem8::verify {

/// A tensor as found, sound or not. A file's header may name a tensor whose entry is broken: then
/// there is a name and no `info`.
struct Stored {
  std::string name;
  std::size_t file = 0;  ///< position in Subject::files
  const TensorInfo* info = nullptr;
};

struct File {
  std::string name;
  SafetensorsReport report;
};

/// How the config describes the quantisation. The words of vLLM's readers: format A is quant_method
/// "fp8" (AutoFP8), format B is compressed-tensors.
struct Quantization {
  enum class Format { kNone, kFp8, kCompressedTensors, kModelOpt, kUnknown };
  enum class Scheme { kStatic, kDynamic, kMissing, kUnknown };
  Format format = Format::kNone;
  Scheme scheme = Scheme::kMissing;
  std::string method_name;  ///< as written
  std::string scheme_name;
  std::vector<std::string> ignored;
  std::vector<std::string> targets;  ///< of all groups (format B)
  std::string weight_strategy = "tensor";
  std::vector<std::int64_t> block_size;  ///< format A weight_block_size, format B strategy "block"
  bool has_block_size = false;
  bool has_kv_scheme = false;
  bool in_top_level = false, in_text_config = false;
};

/// One linear of the model beside what the checkpoint stores for it.
struct LinearState {
  const LinearGroup* group = nullptr;
  const Linear* linear = nullptr;
  std::string module;  ///< stored module name: prefix + linear->name
  const Stored* weight = nullptr;
  const Stored* weight_scale = nullptr;
  const Stored* input_scale = nullptr;
  bool bare_name = false;  ///< an expert's weight is stored without ".weight"
  bool in_fused_3d =
      false;  ///< an expert's weight is a slice of a fused tensor; `weight` is that tensor

  bool is_fp8() const {
    return weight != nullptr && weight->info != nullptr && weight->info->dtype == DType::kF8E4M3;
  }
  /// Stored in a float type of two bytes or more.
  bool is_float() const;
};

/// A checkpoint folder read without believing any of it.
struct Subject {
  std::filesystem::path dir;

  std::vector<File> files;  ///< every *.safetensors that could be mapped, by name
  std::optional<ShardIndex> index;
  bool index_exists = false;
  std::string index_error;  ///< why index_exists and no index
  std::vector<std::pair<std::string, std::string>> unreadable_files;  ///< name, why

  std::optional<Json> config;
  std::string config_error;
  std::optional<ModelConfig> model;  ///< geometry; without its quantisation
  std::string model_error;
  Quantization quantization;
  std::string text_prefix;  ///< "model.language_model." or "model."

  std::vector<Stored> tensors;       ///< by name, then file
  std::vector<LinearGroup> groups;   ///< every layer's
  std::vector<LinearState> linears;  ///< in the order of groups
  std::unordered_map<std::string_view, std::size_t>
      by_name;  ///< into tensors, the first of each name

  std::shared_ptr<const Checkpoint> source;  ///< may be null

  const Stored* find(std::string_view name) const;
  std::string file_of(const Stored& stored) const { return files[stored.file].name; }
  /// What was read of a tensor leaves memory.
  void release(const Stored& stored) const {
    if (stored.info != nullptr) files[stored.file].report.file.release(stored.info->bytes);
  }
  /// layer number of a text tensor "<prefix>layers.N.rest"; nullopt otherwise. `rest` may be null.
  std::optional<std::int32_t> layer_of(std::string_view name, std::string_view* rest) const;
  /// The scalar value of a one-element F32, BF16 or F16 tensor.
  static std::optional<float> scalar(const Stored* stored);
};

/// Errors: kNotFound when `dir` is no folder or holds neither config.json nor a *.safetensors.
Result<Subject> read_subject(const std::filesystem::path& dir,
                             std::shared_ptr<const Checkpoint> source);

}  // namespace gem8::verify
