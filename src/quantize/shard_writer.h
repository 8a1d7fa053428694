#pragma once

#include <array>
#include <filesystem>
#include <optional>
#include <vector>

#include "foundation/result.h"
#include "foundation/thread_pool.h"
#include "quantize/plan.h"

namespace gem8 {

/// The input scales of one layer, one per site; 0 where the layer has none.
using InputScales = std::array<float, kInputSites>;

/// What was written of one quantised linear, for reports.
struct WrittenLinear {
  std::string module;
  std::int32_t layer = 0;
  std::int32_t expert = -1;
  InputSite input = InputSite::kAttention;
  float weight_scale = 0.0f;
  float input_scale = 0.0f;  ///< 0: dynamic
};

/// Writes one shard: bytes kept, codes, then scales, so that each weight is read once (its group's
/// largest magnitude and its codes while it is in the cache). The next block is encoded while the
/// last one is written. The shard appears complete or not at all. `inputs` has one entry per layer
/// (static scheme).
///
/// Memory: two blocks of kBlockBytes of codes, whatever the model; the weights of a block leave
/// memory when they are encoded. `source` is what the plan was made of.
/// Errors: kExhausted when the disk is full; kCorrupt when a weight is infinite or NaN, by name.
Result<std::vector<WrittenLinear>> write_shard(const std::filesystem::path& dir,
                                               const Checkpoint& source, const ConversionPlan& plan,
                                               const ConversionShard& shard,
                                               const std::vector<InputScales>& inputs,
                                               const SafetensorsWriter::Metadata& metadata,
                                               ThreadPool& pool);
inline constexpr std::size_t kBlockBytes = std::size_t{64} << 20;

/// The same facts from a shard written earlier; nullopt when `dir` has no such complete shard.
Result<std::optional<std::vector<WrittenLinear>>> read_written_shard(
    const std::filesystem::path& dir, const ConversionPlan& plan, const ConversionShard& shard);

}  // namespace gem8
