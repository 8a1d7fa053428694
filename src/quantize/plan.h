#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "formats/checkpoint.h"
#include "formats/safetensors_writer.h"
#include "foundation/json/json.h"
#include "foundation/result.h"
#include "quantize/linears.h"

namespace gem8 {

enum class Scheme {
  kStatic,   ///< input scales from calibration
  kDynamic,  ///< none: engines scale activations as they run
};

struct ConversionOptions {
  Scheme scheme = Scheme::kStatic;
  /// Regular expressions (RE2, matching anywhere) on stored module names; linears that match stay
  /// as they are.
  std::vector<std::string> ignore;
  std::uint64_t shard_bytes = 5'000'000'000;
};

/// What is written together: a tensor copied from the source, or a group of linears with their
/// scales.
struct ConversionItem {
  std::int32_t layer = -1;             ///< -1: outside the layers
  const TensorInfo* kept = nullptr;    ///< copied; otherwise `group`
  const LinearGroup* group = nullptr;  ///< quantised
  std::vector<StoredWeight> weights;   ///< of the group's members
  std::vector<std::string> modules;    ///< their stored names, without ".weight"
  std::uint64_t bytes = 0;             ///< in the checkpoint written
};

struct ConversionShard {
  std::string file;
  std::vector<std::size_t> items;  ///< into ConversionPlan::items
};

/// Everything about the checkpoint to be written except the numbers.
struct ConversionPlan {
  Scheme scheme = Scheme::kStatic;
  std::vector<LinearGroup> groups;    ///< those quantised
  std::vector<ConversionItem> items;  ///< by layer, in the order they are written
  std::vector<ConversionShard> shards;
  std::vector<std::string> ignored_layers;
  Json config;  ///< config.json to be written
  std::uint64_t total_bytes = 0;
  std::uint64_t source_bytes = 0;
  std::size_t n_quantised = 0;  ///< linears
  std::uint64_t quantised_parameters = 0;
  std::vector<std::string> kept_by_request;  ///< modules that --ignore kept
};

/// Decides name by name what becomes of every tensor of `source`, which must outlive the plan.
/// Errors: kUnsupported when the source is quantised already or a linear's element type is not
/// BF16 or F32; kCorrupt for a missing or misshapen linear, by name; kInvalidArgument for a
/// bad regular expression or one that matches part of what engines fuse (the group is named).
Result<ConversionPlan> make_conversion_plan(const Checkpoint& source,
                                            const ConversionOptions& options);

/// The names of ignored_layers for `source`: everything linear that is not quantised, in full, as
/// engines and other readers want it. `kept` are modules that stay unquantised by request.
std::vector<std::string> ignored_layers(const Checkpoint& source,
                                        const std::vector<std::string>& kept);

}  // namespace gem8
