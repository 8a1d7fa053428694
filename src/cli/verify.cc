#include "quantize/verify/verify.h"
#include "cli/validators.h"

#include <fmt/format.h>

#include "cli/command.h"
#include "formats/checkpoint.h"
#include "formats/locate.h"

namespace gem8::cli {

namespace {

struct VerifyOptions {
  std::string dir;
  std::string against;
  std::string format = "text";
  std::string vllm_date;
};

Result<int> run_verify(const VerifyOptions& options, const CommonOptions& common) {
  GEM8_TRY(const auto dir, resolve_model_dir(options.dir));
  verify::Options rules{.vllm_date = options.vllm_date};
  if (!options.against.empty()) {
    GEM8_TRY(const auto source_dir, resolve_model_dir(options.against));
    GEM8_TRY(Checkpoint source, Checkpoint::open(source_dir));
    rules.source = std::make_shared<const Checkpoint>(std::move(source));
  }
  ThreadPool pool(common.thread_count());
  GEM8_TRY(const verify::Report report, verify::verify_checkpoint(dir, rules, pool));
  const bool json = options.format == "json";
  GEM8_RETURN_IF_ERROR(write_stdout(json ? to_text(verify::to_json(report), {.indent = 1}) + "\n"
                                         : to_text(report)));
  return report.count(verify::Severity::kError) > 0 ? kAnswerBad : kDone;
}

}  // namespace

Command add_verify(CLI::App& app, const CommonOptions& common) {
  CLI::App* const command = app.add_subcommand(
      "verify", "Check a checkpoint against every rule; exit 1 when one is broken");
  auto options = std::make_shared<VerifyOptions>();
  command->add_option("DIR", options->dir, "checkpoint folder, hub id or 'demo'")->required();
  command->add_option("--against", options->against, "the unquantised checkpoint it was made from");
  command->add_option("--format", options->format, "text or json")->check(one_of({"text", "json"}));
  command
      ->add_option("--vllm-date", options->vllm_date,
                   "build date of the vLLM that is to load the file, if it is an old one")
      ->check(date());
  return {command, [options, &common] { return run_verify(*options, common); }};
}

}  // namespace gem8::cli
