// gem8 quantize SRC -o OUT: bf16 to FP8, calibrated, verified.
#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "cli/command.h"
#include "cli/progress.h"
#include "cli/validators.h"
#include "formats/checkpoint.h"
#include "formats/locate.h"
#include "foundation/log.h"
#include "foundation/mapped_file.h"
#include "foundation/output_file.h"
#include "quantize/quantizer.h"
#include "quantize/samples.h"

namespace gem8::cli {

namespace {

struct Options {
  std::string source, out, scheme = "static", calibration, dtype = "bfloat16", report;
  std::size_t samples = 512, max_length = 2048;
  std::vector<std::string> ignore;
  std::uint64_t memory = 8ull << 30, shard_size = 5'000'000'000;
  bool restart = false, dry_run = false;
};

/// No sample may be longer than the model has positions.
std::size_t sample_tokens(const Options& options, const TextConfig& text) {
  return std::min(options.max_length, static_cast<std::size_t>(text.max_position_embeddings));
}

Result<std::vector<TokenSample>> samples_of(const Options& options, const Checkpoint& source) {
  std::string text(builtin_calibration());
  if (options.calibration.empty()) {
    log_info("no --calibration: using the built-in mix of chat, code, languages and tools");
  } else {
    GEM8_TRY(text, read_text_file(options.calibration));
  }
  const std::string name =
      options.calibration.empty() ? "built-in calibration" : options.calibration;
  const std::size_t longest = sample_tokens(options, source.config().text);
  GEM8_TRY(Samples samples,
           read_samples(text, name, source,
                        {.max_samples = options.samples,
                         .max_tokens = longest,
                         .folder = std::filesystem::path(options.calibration).parent_path()}));
  if (samples.cut > 0) log_info("{} samples cut to {} tokens", samples.cut, longest);
  if (samples.with_images > 0) log_info("{} samples show images", samples.with_images);
  return std::move(samples.samples);
}

Result<int> run_quantize(const Options& options, const CommonOptions& common) {
  if (!options.report.empty()) GEM8_RETURN_IF_ERROR(check_writable(options.report));
  GEM8_TRY(const auto source_dir, resolve_model_dir(options.source));
  GEM8_TRY(Checkpoint opened, Checkpoint::open(source_dir));
  const auto source = std::make_shared<const Checkpoint>(std::move(opened));
  QuantizeOptions run{.out = options.out};
  run.conversion = {.scheme = options.scheme == "dynamic" ? Scheme::kDynamic : Scheme::kStatic,
                    .ignore = options.ignore,
                    .shard_bytes = options.shard_size};
  run.calibration_dtype = options.dtype == "float32" ? DType::kF32 : DType::kBF16;
  run.memory_bytes = options.memory;
  run.max_sample_tokens = static_cast<std::int64_t>(sample_tokens(options, source->config().text));
  run.restart = options.restart;
  GEM8_TRY(const ConversionPlan plan, make_conversion_plan(*source, run.conversion));
  if (run.conversion.scheme == Scheme::kStatic) {
    GEM8_TRY(run.samples, samples_of(options, *source));
  }
  if (options.dry_run) {
    GEM8_RETURN_IF_ERROR(write_stdout(to_text(QuantizeReport{}, plan)));
    return kDone;
  }
  ThreadPool pool(common.thread_count());
  QuantizeReport report;
  {
    Progress progress;
    run.progress = [&progress](std::string_view stage, std::size_t done, std::size_t total) {
      progress.show(stage, done, total);
    };
    GEM8_TRY(report, quantize(source, plan, run, pool));
  }
  if (report.already_done) {
    // What a run reports is measured while it writes: nothing here to put into --report.
    if (!options.report.empty()) log_warning("{} is not written: nothing was done", options.report);
    GEM8_RETURN_IF_ERROR(
        write_stdout(fmt::format("{}: already there, made from this source with these options\n{}",
                                 options.out, to_text(report.verification))));
    return kDone;
  }
  if (!options.report.empty()) {
    GEM8_RETURN_IF_ERROR(write_file_atomically(
        options.report, to_text(to_json(report, plan), {.indent = 1}) + "\n"));
  }
  GEM8_RETURN_IF_ERROR(write_stdout(to_text(report, plan) + to_text(report.verification)));
  return kDone;
}

}  // namespace

Command add_quantize(CLI::App& app, const CommonOptions& common) {
  CLI::App* const command =
      app.add_subcommand("quantize", "Turn a bf16 checkpoint into a verified FP8 one");
  const auto options = std::make_shared<Options>();
  command->add_option("SRC", options->source, "Checkpoint folder, hub id in the cache, or 'demo'")
      ->required();
  command->add_option("-o,--output", options->out, "Folder to make")->required();
  command->add_option("--scheme", options->scheme, "static: calibrated input scales; dynamic: none")
      ->check(one_of({"static", "dynamic"}))
      ->capture_default_str();
  command->add_option("--calibration", options->calibration,
                      "JSONL, one sample a line: {\"messages\"} (with images, where it has them), "
                      "{\"text\"} or {\"tokens\"} "
                      "(default: a built-in mix)");
  command->add_option("--samples", options->samples, "Samples to calibrate with at most")
      ->check(between(1, 1 << 20))
      ->capture_default_str();
  command
      ->add_option("--max-length", options->max_length,
                   "Tokens of a sample at most; longer ones are cut")
      ->check(between(1, 1 << 20))
      ->capture_default_str();
  command
      ->add_option(
          "--ignore", options->ignore,
          "Regular expression on module names: linears that match stay unquantised (repeatable)")
      ->allow_extra_args(false);
  command->add_option("--memory", options->memory, "Resident memory at most, as in 8GiB")
      ->transform(byte_size())
      ->default_str("8GiB");
  command->add_option("--shard-size", options->shard_size, "Bytes of a shard at most, as in 5GB")
      ->transform(byte_size())
      ->default_str("5GB");
  command->add_option("--dtype", options->dtype, "Arithmetic of the calibration pass")
      ->check(one_of({"bfloat16", "float32"}))
      ->capture_default_str();
  command->add_flag("--restart", options->restart, "Forget an unfinished run");
  command->add_option("--report", options->report,
                      "Write everything, per tensor, to this JSON file");
  command->add_flag("--dry-run", options->dry_run, "Say what would be done, and do nothing");
  return {command, [options, &common] { return run_quantize(*options, common); }};
}

}  // namespace gem8::cli
