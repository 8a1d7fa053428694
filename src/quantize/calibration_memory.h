#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "formats/checkpoint.h"
#include "foundation/dtype.h"
#include "foundation/result.h"
#include "quantize/token_sample.h"

namespace gem8 {

/// What calibration holds in memory at a time, an upper bound in bytes. Hidden states are not in
/// it: they stay in memory as far as there is room beside these, and on disk in any case.
struct CalibrationMemory {
  std::uint64_t largest_layer = 0;  ///< weights, mapped
  std::uint64_t step = 0;           ///< workspaces and cache of one step
  std::uint64_t shared_kv = 0;      ///< keys and values that later layers read, of every sample
  std::uint64_t fixed = 0;          ///< blocks of the writer, tokenizer, the program itself

  std::uint64_t total() const { return largest_layer + step + shared_kv + fixed; }
};

CalibrationMemory calibration_memory(const Checkpoint& source, std::span<const TokenSample> samples,
                                     std::int64_t max_step_tokens, DType activation_dtype);

/// What of `limit` is left for hidden states. Error: kInvalidArgument when the rest does not fit,
/// with the numbers.
Result<std::uint64_t> room_for_hidden_states(const CalibrationMemory& memory, std::uint64_t limit);

}  // namespace gem8
