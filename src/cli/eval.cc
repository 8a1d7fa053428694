// gem8 eval DIR: how far a model is from the one it was made from, and what it can still do.
#include <algorithm>
#include <memory>
#include <string>

#include "backend/device.h"
#include "cli/command.h"
#include "cli/progress.h"
#include "cli/validators.h"
#include "formats/checkpoint.h"
#include "formats/companion_configs.h"
#include "formats/locate.h"
#include "foundation/log.h"
#include "foundation/mapped_file.h"
#include "kernels/ops.h"
#include "quantize/eval/eval.h"
#include "quantize/samples.h"

namespace gem8::cli {

namespace {

struct Options {
  std::string dir, against, data, activations = "bf16", format = "text";
  std::size_t max_length = 4096;
  std::int64_t max_tokens = 256;
};

Result<std::shared_ptr<const Checkpoint>> open(const std::string& name) {
  GEM8_TRY(const auto dir, resolve_model_dir(name));
  GEM8_TRY(Checkpoint checkpoint, Checkpoint::open(dir));
  return std::make_shared<const Checkpoint>(std::move(checkpoint));
}

struct Loaded {
  std::unique_ptr<Model> model;
  std::unique_ptr<VisionTower> tower;
  SeeingModel view() const { return {model.get(), tower.get()}; }
};

Result<Loaded> load(const std::shared_ptr<const Checkpoint>& checkpoint, Ops& ops, bool sees) {
  Loaded loaded;
  GEM8_TRY(loaded.model, Model::load(checkpoint, ops));
  if (sees) {
    GEM8_TRY(loaded.tower, VisionTower::load(checkpoint, ops));
  }
  return loaded;
}

/// --data, else the eval.jsonl of the source or the model, else the built-in chats.
Result<std::string> data_text(const Options& options, const Checkpoint* source,
                              const Checkpoint& model, std::string& name) {
  name = options.data;
  for (const Checkpoint* const checkpoint : {source, &model}) {
    if (!name.empty() || checkpoint == nullptr) continue;
    std::error_code ignored;
    const auto own = checkpoint->dir() / "eval.jsonl";
    if (std::filesystem::exists(own, ignored)) name = own.string();
  }
  if (!name.empty()) return read_text_file(name);
  log_info("no --data: using the built-in mix of chat, code, languages and tools");
  name = "built-in data";
  return std::string(builtin_calibration());
}

std::vector<TokenId> ids(const std::vector<int>& numbers) {
  std::vector<TokenId> result;
  for (const int number : numbers) result.push_back(TokenId{number});
  return result;
}

Result<int> run_eval(const Options& options, const CommonOptions& common) {
  GEM8_TRY(const auto checkpoint, open(options.dir));
  GEM8_TRY(const GenerationConfig generation, read_generation_config(checkpoint->dir()));
  std::shared_ptr<const Checkpoint> source_checkpoint;
  if (!options.against.empty()) {
    GEM8_TRY(source_checkpoint, open(options.against));
  }
  std::string name;
  GEM8_TRY(const std::string text, data_text(options, source_checkpoint.get(), *checkpoint, name));
  SampleEncoder encoder(*checkpoint, std::filesystem::path(name).parent_path());
  GEM8_TRY(const eval::Data data, eval::read_data(text, name, encoder, options.max_length));
  GEM8_TRY(const Tokenizer* const tokenizer, encoder.tokenizer());

  ThreadPool pool(common.thread_count());
  const auto device = make_cpu_device();
  GEM8_TRY(const auto ops,
           make_cpu_ops(*device, pool,
                        {.activations = options.activations == "fp8" ? Activations::kFP8
                                                                     : Activations::kBF16}));
  GEM8_TRY(const auto source_ops, make_cpu_ops(*device, pool, {}));
  const bool sees = std::ranges::any_of(
      data.samples, [](const eval::Sample& sample) { return !sample.whole.images.empty(); });
  GEM8_TRY(const Loaded model, load(checkpoint, *ops, sees));
  Loaded source;
  if (source_checkpoint != nullptr) {
    GEM8_TRY(source, load(source_checkpoint, *source_ops, sees));
  }
  eval::Options run;
  run.greedy.stop = ids(generation.eos_token_ids.empty() ? checkpoint->config().eos_token_ids
                                                         : generation.eos_token_ids);
  run.greedy.suppress = ids(generation.suppress_tokens);
  run.greedy.max_new_tokens = options.max_tokens;
  eval::Report report;
  {
    Progress progress;
    run.progress = [&progress](std::string_view stage, std::size_t done, std::size_t total) {
      progress.show(stage, done, total);
    };
    GEM8_TRY(report, eval::evaluate(source.view(), model.view(), data, *tokenizer, run, pool));
  }
  GEM8_RETURN_IF_ERROR(write_stdout(options.format == "json"
                                        ? to_text(eval::to_json(report), {.indent = 1}) + "\n"
                                        : eval::to_text(report)));
  return kDone;
}

}  // namespace

Command add_eval(CLI::App& app, const CommonOptions& common) {
  CLI::App* const command = app.add_subcommand(
      "eval", "Compare a model with the one it was made from, and score its answers");
  const auto options = std::make_shared<Options>();
  command->add_option("DIR", options->dir, "Checkpoint folder, hub id in the cache, or 'demo'")
      ->required();
  command->add_option("--against", options->against, "The checkpoint it was made from");
  command->add_option("--data", options->data,
                      "JSONL: {\"messages\", \"tools\"?, \"images\"?, \"answer\"?, "
                      "\"attributes\"?, \"ability\"?} a line "
                      "(default: the eval.jsonl of the source or of DIR, else a built-in mix)");
  command
      ->add_option("--activations", options->activations,
                   "bf16, or fp8: the arithmetic of FP8 GPUs")
      ->check(one_of({"bf16", "fp8"}))
      ->capture_default_str();
  command->add_option("--max-length", options->max_length, "Longer samples are left out, in tokens")
      ->check(between(2, 1 << 20))
      ->capture_default_str();
  command->add_option("--max-tokens", options->max_tokens, "Tokens of an answer at most")
      ->check(between(1, 1 << 20))
      ->capture_default_str();
  command->add_option("--format", options->format, "text or json")->check(one_of({"text", "json"}));
  return {command, [options, &common] { return run_eval(*options, common); }};
}

}  // namespace gem8::cli
