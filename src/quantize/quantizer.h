#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "foundation/json/json.h"
#include "foundation/result.h"
#include "foundation/thread_pool.h"
#include "foundation/token_id.h"
#include "quantize/calibrator.h"
#include "quantize/plan.h"
#include "quantize/shard_writer.h"
#include "quantize/verify/verify.h"

namespace gem8 {

class Device;

struct QuantizeOptions {
  std::filesystem::path out;
  ConversionOptions conversion;
  /// One forward pass each (static scheme).
  std::vector<TokenSample> samples;
  DType calibration_dtype = DType::kBF16;   ///< arithmetic of the calibration pass: kBF16 or kF32
  std::uint64_t memory_bytes = 8ull << 30;  ///< resident at most (see calibration_memory.h)
  std::int64_t max_sample_tokens = 2048;
  bool restart = false;  ///< forget an unfinished run
  /// Called between pieces of work: what is being done, how many of how many.
  std::function<void(std::string_view stage, std::size_t done, std::size_t total)> progress;
};

struct QuantizeReport {
  bool already_done = false;  ///< OUT was there, made from the same source with the same options
  std::int32_t resumed_layers = 0;
  std::vector<LayerStatistics> layers;  ///< static scheme
  std::vector<WrittenLinear> linears;
  verify::Report verification;
  std::int64_t calibration_tokens = 0;
  std::size_t calibration_samples = 0;
  double seconds_calibrating = 0.0, seconds_writing = 0.0, seconds_verifying = 0.0;
};

/// Converts `source` to FP8 in options.out, following `plan` (made of the same source).
///
/// Everything is written to "<out>.partial"; the verifier must find no error there before the
/// folder gets its name. Run again after an interruption it continues: shards that are complete and
/// layers that are calibrated are not done again. An `out` that exists is never touched; it counts
/// as done when it was made from this and passes the verifier again. Errors: what check_loadable()
/// or a companion file says of the source, before anything is written; kInvalidArgument when `out`
/// or its partial folder comes from something else, or is no name for a folder; kExhausted when the
/// disk is full (what is finished stays); kCorrupt when weights or activations are not finite;
/// kUnavailable when another process works on the partial folder; kInternal when the verifier
/// rejects the result (it stays in the partial folder).
Result<QuantizeReport> quantize(std::shared_ptr<const Checkpoint> source,
                                const ConversionPlan& plan, const QuantizeOptions& options,
                                ThreadPool& pool);

/// Everything about a run, per layer and per linear, for --report.
Json to_json(const QuantizeReport& report, const ConversionPlan& plan);
/// For people: what was quantised and kept, scales at a glance, expert coverage, bytes, seconds.
std::string to_text(const QuantizeReport& report, const ConversionPlan& plan);

}  // namespace gem8
