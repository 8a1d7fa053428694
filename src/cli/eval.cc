// gem8 eval DIR: how far a model is from the one it was made from, and what it can still do.
#include <algorithm>
#include <memory>
#include <string>

#include "backend/device.h"
#include "cli/command.h"
#include "cli/progress.h"
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

/// --data, else the checkpoint's own eval.jsonl, else the built-in chats.
Result<std::string> data_text(const Options& options, const Checkpoint& model, std::string& name) {
  std::error_code ignored;
  const auto own = model.dir() / "eval.jsonl";
  if (options.data.empty() && !std::filesystem::exists(own, ignored)) {
    log_info("no --data: using the built-in mix of chat, code, languages and tools");
    name = "built-in data";
    return std::string(builtin_calibration());
  }
  name = options.data.empty() ? own.string() : options.data;
  return read_text_file(name);
}

std::vector<TokenId> ids(const std::vector<int>& numbers) {
  std::vector<TokenId> result;
  for (const int number : numbers) result.push_back(TokenId{number});
  return result;
}

Result<int> run_eval(const Options& options, const CommonOptions& common) {
  GEM8_TRY(const auto checkpoint, open(options.dir));
  GEM8_TRY(const ChatTemplate chat, ChatTemplate::load(checkpoint->dir()));
  GEM8_TRY(const Tokenizer tokenizer, Tokenizer::load(checkpoint->dir()));
  GEM8_TRY(const GenerationConfig generation, read_generation_config(checkpoint->dir()));
  std::string name;
  GEM8_TRY(const std::string text, data_text(options, *checkpoint, name));
  const TokenId bos{checkpoint->config().text.bos_token_id};
  GEM8_TRY(const eval::Data data,
           eval::read_data(text, name, chat, tokenizer, bos, options.max_length));

  ThreadPool pool(common.thread_count());
  const auto device = make_cpu_device();
  GEM8_TRY(const auto ops,
           make_cpu_ops(*device, pool,
                        {.activations = options.activations == "fp8" ? Activations::kFP8
                                                                     : Activations::kBF16}));
  GEM8_TRY(const auto source_ops, make_cpu_ops(*device, pool, {}));
  GEM8_TRY(const auto model, Model::load(checkpoint, *ops));
  std::unique_ptr<Model> source;
  if (!options.against.empty()) {
    GEM8_TRY(const auto source_checkpoint, open(options.against));
    GEM8_TRY(source, Model::load(source_checkpoint, *source_ops));
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
    GEM8_TRY(report, eval::evaluate(source.get(), *model, data, tokenizer, run, pool));
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
                      "JSONL: {\"messages\", \"tools\"?, \"answer\"?, \"ability\"?} a line "
                      "(default: DIR/eval.jsonl, "
                      "else a built-in mix)");
  command
      ->add_option("--activations", options->activations,
                   "bf16, or fp8: the arithmetic of FP8 GPUs")
      ->check(CLI::IsMember({"bf16", "fp8"}))
      ->capture_default_str();
  command->add_option("--max-length", options->max_length, "Longer samples are left out, in tokens")
      ->check(CLI::Range(2, 1 << 20))
      ->capture_default_str();
  command->add_option("--max-tokens", options->max_tokens, "Tokens of an answer at most")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  command->add_option("--format", options->format, "text or json")
      ->check(CLI::IsMember({"text", "json"}));
  return {command, [options, &common] { return run_eval(*options, common); }};
}

}  // namespace gem8::cli
