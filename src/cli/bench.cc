#include <sys/resource.h>

#include <optional>

#include "cli/command.h"
#include "cli/validators.h"
#include "formats/locate.h"
#include "foundation/json/json.h"
#include "foundation/log.h"
#include "kernels/isa/isa.h"
#include "model/speed/speed.h"
#include "model/speed/synthetic.h"
#include "model/speed/tower_speed.h"

namespace gem8::cli {
namespace {

struct BenchOptions {
  std::string dir;
  std::string shapes;
  int layers = 6;
  int vision_layers = 2;
  SpeedPlan plan;
  TowerPlan tower;
  std::string format = "text";
};

/// Peak resident memory of the process, bytes.
std::int64_t peak_rss() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<std::int64_t>(usage.ru_maxrss) * 1024;
}

Json to_json(const Speed& speed, std::span<const TowerSpeed> tower, std::size_t threads,
             std::string_view level) {
  Json decode = Json::array();
  for (const DecodeSpeed& row : speed.decode) {
    decode.push_back(Json::object({{"batch", row.batch},
                                   {"depth", row.depth},
                                   {"tok_s", row.tok_s},
                                   {"bytes_per_token", row.bytes_per_token},
                                   {"gbps", row.gbps},
                                   {"share", row.share}}));
  }
  Json prefill = Json::array();
  for (const PrefillSpeed& row : speed.prefill) {
    prefill.push_back(Json::object({{"tokens", row.tokens},
                                    {"tok_s", row.tok_s},
                                    {"gflops", row.gflops},
                                    {"share", row.share}}));
  }
  Json vision = Json::array();
  for (const TowerSpeed& row : tower) {
    vision.push_back(Json::object({{"soft_tokens", row.soft_tokens},
                                   {"images", row.images},
                                   {"images_s", row.images_s},
                                   {"tok_s", row.tok_s},
                                   {"gflops", row.gflops},
                                   {"share", row.share}}));
  }
  return Json::object({{"machine", Json::object({{"read_gbps", speed.read_gbps},
                                                 {"bf16_gflops", speed.bf16_gflops},
                                                 {"threads", threads},
                                                 {"isa", level}})},
                       {"decode", decode},
                       {"prefill", prefill},
                       {"vision", vision},
                       {"rss_bytes", peak_rss()}});
}

std::string to_table(const Speed& speed, std::span<const TowerSpeed> tower, std::size_t threads,
                     std::string_view level) {
  std::string text =
      fmt::format("machine: {} threads, {}, reads {:.1f} GB/s, bf16 peak {:.0f} GFLOP/s\n", threads,
                  level, speed.read_gbps, speed.bf16_gflops);
  text += fmt::format("{:<8}{:>7}{:>7}{:>10}{:>12}{:>9}{:>18}\n", "decode", "batch", "depth",
                      "tok/s", "MB/token", "GB/s", "of read ceiling");
  for (const DecodeSpeed& row : speed.decode) {
    text +=
        fmt::format("{:<8}{:>7}{:>7}{:>10.1f}{:>12.1f}{:>9.1f}{:>17.0f}%\n", "", row.batch,
                    row.depth, row.tok_s, row.bytes_per_token * 1e-6, row.gbps, row.share * 100);
  }
  text += fmt::format("{:<8}{:>7}{:>17}{:>12}{:>27}\n", "prefill", "tokens", "tok/s", "GFLOP/s",
                      "of bf16 peak");
  for (const PrefillSpeed& row : speed.prefill) {
    text += fmt::format("{:<8}{:>7}{:>17.1f}{:>12.1f}{:>26.0f}%\n", "", row.tokens, row.tok_s,
                        row.gflops, row.share * 100);
  }
  if (!tower.empty()) {
    text += fmt::format("{:<8}{:>7}{:>7}{:>10}{:>12}{:>27}\n", "tower", "images", "each", "tok/s",
                        "GFLOP/s", "of bf16 peak");
  }
  for (const TowerSpeed& row : tower) {
    text += fmt::format("{:<8}{:>7}{:>7}{:>10.1f}{:>12.1f}{:>26.0f}%\n", "", row.images,
                        row.soft_tokens, row.tok_s, row.gflops, row.share * 100);
  }
  return text +
         fmt::format("peak resident memory: {:.2f} GB\n", static_cast<double>(peak_rss()) * 1e-9);
}

/// What would end the measurement in the middle.
Status check_lengths(const SpeedPlan& plan, const TextConfig& text) {
  const auto check = [&](std::string_view option, std::int64_t tokens) -> Status {
    if (tokens <= text.max_position_embeddings) return {};
    return fail(Code::kInvalidArgument, "{}: found {}, the model has {} positions", option, tokens,
                text.max_position_embeddings);
  };
  for (const std::int64_t depth : plan.depths) GEM8_RETURN_IF_ERROR(check("--depth", depth));
  for (const std::int64_t tokens : plan.prompts) GEM8_RETURN_IF_ERROR(check("--prompt", tokens));
  return {};
}

Result<int> run(const BenchOptions& options, const CommonOptions& common) {
  if (options.dir.empty() == options.shapes.empty()) {
    return fail(Code::kInvalidArgument, "found {} a folder and --shapes, wanted one of them",
                options.dir.empty() ? "neither" : "both");
  }
  GEM8_TRY(const isa::Level level, isa::choose());
  ThreadPool pool(common.thread_count());
  std::shared_ptr<const Checkpoint> checkpoint;
  if (!options.shapes.empty()) {
    log_info("making {} of 30 layers of {} and {} of 27 of its image tower with random weights",
             options.layers, options.shapes, options.vision_layers);
    GEM8_TRY(checkpoint, make_synthetic_26b_a4b(options.layers, pool, options.vision_layers));
  } else {
    GEM8_TRY(const std::filesystem::path dir, resolve_model_dir(options.dir));
    GEM8_TRY(Checkpoint opened, Checkpoint::open(dir));
    checkpoint = std::make_shared<const Checkpoint>(std::move(opened));
  }
  GEM8_RETURN_IF_ERROR(check_lengths(options.plan, checkpoint->config().text));
  const auto progress = [](const std::string& line) { log_info("{}", line); };
  TowerPlan tower_plan = options.tower;
  tower_plan.rounds = options.plan.rounds;
  GEM8_TRY(const std::vector<TowerSpeed> tower,
           measure_tower(checkpoint, pool, tower_plan, progress));
  GEM8_TRY(const Speed speed, measure_speed(std::move(checkpoint), pool, options.plan, progress));
  const std::string text =
      options.format == "json"
          ? to_text(to_json(speed, tower, pool.size(), isa::level_name(level))) + "\n"
          : to_table(speed, tower, pool.size(), isa::level_name(level));
  GEM8_RETURN_IF_ERROR(write_stdout(text));
  return kDone;
}

}  // namespace

Command add_bench(CLI::App& app, const CommonOptions& common) {
  auto options = std::make_shared<BenchOptions>();
  CLI::App* command = app.add_subcommand(
      "bench", "Measure decode, prefill and image tower as shares of this machine's ceilings");
  command->add_option("dir", options->dir, "Checkpoint folder, hub id or demo");
  command
      ->add_option("--shapes", options->shapes,
                   "Synthetic FP8 weights of these layer shapes instead of a checkpoint")
      ->check(one_of({"26b-a4b"}));
  command
      ->add_option("--layers", options->layers,
                   "How many of the 30 layers --shapes makes (0.8 GB each)")
      ->check(between(1, 30));
  command
      ->add_option("--vision-layers", options->vision_layers,
                   "How many of the 27 layers of its image tower --shapes makes (0: no tower)")
      ->check(between(0, 27));
  const auto positive = between(1, 1 << 20);
  command->add_option("--batch", options->plan.batches, "Sequences that decode together")
      ->delimiter(',')
      ->allow_extra_args(false)
      ->check(positive);
  command->add_option("--depth", options->plan.depths, "Tokens already in each sequence's cache")
      ->delimiter(',')
      ->allow_extra_args(false)
      ->check(between(0, 1 << 20));
  command->add_option("--prompt", options->plan.prompts, "Prompt lengths to prefill")
      ->delimiter(',')
      ->allow_extra_args(false)
      ->check(positive);
  command
      ->add_option("--images", options->tower.images,
                   "Pictures of a pass of the tower (0: no pass)")
      ->delimiter(',')
      ->allow_extra_args(false)
      ->check(between(0, 256));
  command->add_option("--image-tokens", options->tower.budgets, "Soft tokens of a picture at most")
      ->delimiter(',')
      ->allow_extra_args(false)
      ->check(one_of({"70", "140", "280", "560", "1120"}));
  command->add_option("--rounds", options->plan.rounds, "Rounds of each measurement")
      ->check(between(1, 1000));
  command->add_option("--format", options->format, "text or json")->check(one_of({"text", "json"}));
  return {command, [options, &common] { return run(*options, common); }};
}

}  // namespace gem8::cli
