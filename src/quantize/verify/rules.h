#pragma once

#include <array>
#include <span>
#include <string_view>

#include "foundation/thread_pool.h"
#include "quantize/verify/finding.h"
#include "quantize/verify/loader_names.h"
#include "quantize/verify/subject.h"

namespace gem8::verify {

struct RuleOptions {
  /// The build date of the vLLM that is to load the checkpoint, "2026-04-05"; empty: a current one.
  std::string_view vllm_date;
};

/// One rule: its number, the worst it reports, and what it wants.
struct Rule {
  int id = 0;
  Severity worst = Severity::kError;
  std::string_view wants;
};
std::span<const Rule> rules();  ///< V-01 to V-41, in order

// Each checks a family of rules; rules.inc says which function answers for which rule.
void check_container(const Subject& subject, Findings& findings);
void check_config(const Subject& subject, Findings& findings);
void check_folder(const Subject& subject, Findings& findings);
void check_ignore_list(const Subject& subject, const LoaderNames& names, Findings& findings);
void check_experts(const Subject& subject, const LoaderNames& names, Findings& findings);
void check_scale_presence(const Subject& subject, Findings& findings);
void check_scale_values(const Subject& subject, Findings& findings);
void check_kv_scales(const Subject& subject, Findings& findings);
void check_kept(const Subject& subject, Findings& findings);
void check_shapes(const Subject& subject, Findings& findings);
/// The rules that read every weight: in parallel, from the mapped files.
void check_codes(const Subject& subject, ThreadPool& pool, Findings& findings);
/// What the other rules do not ask for by name: that the engine finds all it reads. Says nothing
/// where they have found errors, of which this would be a consequence.
void check_complete(const Subject& subject, ThreadPool& pool, Findings& findings);
void check_loader_age(const Subject& subject, const RuleOptions& options, Findings& findings);

}  // namespace gem8::verify
