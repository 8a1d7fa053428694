// gem8 inspect DIR: what is in a checkpoint.
#include <memory>
#include <string>

#include "cli/command.h"
#include "cli/validators.h"
#include "formats/checkpoint_summary.h"
#include "formats/locate.h"

namespace gem8::cli {
namespace {

struct Options {
  std::string checkpoint;
  bool tensors = false;
  std::string format = "text";
};

Result<int> run_inspect(const Options& options) {
  GEM8_TRY(const std::filesystem::path dir, resolve_model_dir(options.checkpoint));
  GEM8_TRY(const Checkpoint checkpoint, Checkpoint::open(dir));
  const CheckpointSummary summary = summarise(checkpoint);
  const std::string text =
      options.format == "json"
          ? to_text(summary_json(checkpoint, summary, options.tensors), {.indent = 2}) + "\n"
          : summary_text(checkpoint, summary, options.tensors);
  GEM8_RETURN_IF_ERROR(write_stdout(text));
  return kDone;
}

}  // namespace

Command add_inspect(CLI::App& app, const CommonOptions&) {
  const auto options = std::make_shared<Options>();
  CLI::App* command =
      app.add_subcommand("inspect", "Say what is in a checkpoint: shape, types, bytes, scales");
  command
      ->add_option("DIR", options->checkpoint, "Checkpoint folder, hub id in the cache, or 'demo'")
      ->required();
  command->add_flag("--tensors", options->tensors, "List every tensor");
  command->add_option("--format", options->format, "text or json")->check(one_of({"text", "json"}));
  return {command, [options] { return run_inspect(*options); }};
}

}  // namespace gem8::cli
