#pragma once

#include <array>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "formats/checkpoint.h"
#include "foundation/json/json.h"
#include "foundation/result.h"
#include "foundation/thread_pool.h"
#include "quantize/verify/finding.h"

namespace gem8::verify {

struct Options {
  /// The unquantised checkpoint this one was made from; null: rules that need it check what they
  /// can.
  std::shared_ptr<const Checkpoint> source;
  /// The build date ("2026-04-05") of the vLLM that is to load the checkpoint; empty: a current
  /// one.
  std::string vllm_date;
};

struct Report {
  std::string checkpoint;
  std::size_t rules_checked = 0;
  std::vector<Finding> findings;  ///< by rule, then tensor

  std::size_t count(Severity severity) const;
};

/// Every rule, on a checkpoint of which nothing is believed. Weights are read where they are
/// mapped, in parallel; memory does not grow with their size. Errors: kNotFound when `dir` is no
/// checkpoint folder at all. Everything else is a finding.
Result<Report> verify_checkpoint(const std::filesystem::path& dir, const Options& options,
                                 ThreadPool& pool);

/// {"checkpoint", "rules_checked", "errors", "warnings", "findings": [{"rule", "severity",
/// "tensor", "file", "message"}]}
Json to_json(const Report& report);
/// For people: a line per finding, long runs of one rule shortened, and a last line that sums up.
std::string to_text(const Report& report);

}  // namespace gem8::verify
