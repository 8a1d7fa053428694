// gem8 generate: one answer to one prompt, on stdout.
#include <csignal>
#include <memory>
#include <optional>
#include <random>

#include "cli/command.h"
#include "cli/pictures.h"
#include "cli/validators.h"
#include "foundation/log.h"
#include "server/app/loaded_model.h"
#include "server/app/prompt_images.h"
#include "server/openai/chat_request.h"
#include "server/openai/choice.h"
#include "server/openai/reply.h"

namespace gem8::cli {
namespace {

struct GenerateOptions {
  std::string model;
  std::string prompt;
  PictureOptions pictures;
  bool raw = false;
  bool thinking = false;
  std::optional<std::int64_t> max_tokens;
  std::optional<float> temperature;
  std::optional<std::int64_t> top_k;
  std::optional<float> top_p;
  std::optional<std::uint64_t> seed;
  std::string activations = "bf16";
  std::string format = "text";
};

volatile std::sig_atomic_t interrupted = 0;

double seconds_between(Clock::time_point from, Clock::time_point to) {
  return std::chrono::duration<double>(to - from).count();
}

/// The request's images, and the prompt with room for them.
Result<std::vector<PromptImage>> prepare_images(const GenerateOptions& options,
                                                const app::LoadedModel& model,
                                                const SpecialTokenIds& tokens,
                                                std::vector<TokenId>& prompt) {
  if (!options.pictures.files.empty() && !model.takes_images())
    return fail(Code::kUnsupported, "--image: this model takes no images");
  GEM8_TRY(std::vector<PreparedImage> images,
           read_pictures(options.pictures, model.default_soft_tokens()));
  Result<std::vector<PromptImage>> placed = app::place_images(std::move(images), tokens, prompt);
  if (!placed) return fail_in(options.model, std::move(placed).error());
  return placed;
}

Result<std::vector<TokenId>> prompt_ids(const GenerateOptions& options,
                                        const app::ServedModel& served) {
  if (options.raw) {
    std::vector<TokenId> ids = served.tokenizer->encode(options.prompt);
    if (served.bos && (ids.empty() || ids.front() != *served.bos))
      ids.insert(ids.begin(), *served.bos);
    return ids;
  }
  Json body = user_request(options.prompt, options.pictures.files.size());
  body.set("chat_template_kwargs", Json::object({{"enable_thinking", options.thinking}}));
  GEM8_TRY(const openai::ChatRequest request, openai::parse_chat_prompt(body));
  return served.render(request);
}

openai::Generation generation_of(const GenerateOptions& options,
                                 const openai::GenerationDefaults& defaults) {
  openai::Generation generation;
  generation.return_token_ids = true;
  SamplingParams& sampling = generation.sampling;
  sampling.temperature = options.temperature.value_or(static_cast<float>(defaults.temperature));
  sampling.top_k = options.top_k.value_or(defaults.top_k);
  sampling.top_p = options.top_p.value_or(static_cast<float>(defaults.top_p));
  sampling.min_p = static_cast<float>(defaults.min_p);
  sampling.repetition_penalty = static_cast<float>(defaults.repetition_penalty);
  sampling.seed = options.seed.value_or(std::random_device{}());
  generation.max_tokens = options.max_tokens ? options.max_tokens : defaults.max_new_tokens;
  return generation;
}

/// Feeds the answer's tokens to `choice`, and what they add to `whole`, until it ends.
Result<RequestTimes> read_answer(RequestHandle& handle, openai::Choice& choice,
                                 openai::WholeChoice& whole, bool stream) {
  TokenEvent event;
  for (;;) {
    if (interrupted != 0) return fail(Code::kCancelled, "interrupted");
    if (!handle.receive_until(event, Clock::now() + std::chrono::milliseconds(100))) continue;
    if (event.finish && event.finish->reason == EndReason::kError)
      return std::unexpected(event.finish->error);
    openai::ChoiceDelta delta = choice.feed(event);
    if (stream) GEM8_RETURN_IF_ERROR(write_stdout(delta.content));
    whole.add(std::move(delta));
    if (event.finish) return event.times;
  }
}

Result<int> run_generate(const GenerateOptions& options, const CommonOptions& common) {
  const Clock::time_point start = Clock::now();
  app::LoadOptions load{.model = options.model,
                        .n_threads = common.thread_count(),
                        .fp8_activations = options.activations == "fp8",
                        .max_num_seqs = 1,
                        .images = !options.pictures.files.empty()};
  GEM8_TRY(const std::unique_ptr<app::LoadedModel> model, app::LoadedModel::load(load));
  const app::ServedModel served = model->served({});
  const double load_s = seconds_between(start, Clock::now());

  GEM8_TRY(std::vector<TokenId> prompt, prompt_ids(options, served));
  GEM8_TRY(std::vector<PromptImage> images,
           prepare_images(options, *model, served.media_tokens, prompt));
  const openai::Generation generation = generation_of(options, served.defaults);
  openai::ChoiceOptions choice_options;
  if (!options.raw) choice_options.parser = ParserOptions{.prompt_tail = prompt};
  choice_options.new_call_id = [] { return std::string("call"); };
  openai::Choice choice(*served.tokenizer, generation, std::move(choice_options));

  const auto n_prompt = std::ssize(prompt);
  EngineRequest request;
  request.prompt = std::move(prompt);
  request.images = std::move(images);
  request.sampling = generation.sampling;
  request.max_tokens = generation.max_tokens;
  std::signal(SIGINT, [](int) { interrupted = 1; });
  GEM8_TRY(RequestHandle handle, model->engine().submit(std::move(request)));
  openai::WholeChoice whole;
  const bool json = options.format == "json";
  GEM8_TRY(const RequestTimes times, read_answer(handle, choice, whole, !json));
  if (!json) GEM8_RETURN_IF_ERROR(write_stdout("\n"));

  const double prefill_s = seconds_between(times.queued, times.first_token);
  const double decode_s = seconds_between(times.first_token, times.last_token);
  const auto n_output = static_cast<double>(choice.n_tokens());
  const double decode_tok_s = n_output > 1 && decode_s > 0 ? (n_output - 1) / decode_s : 0.0;
  const double prefill_tok_s = prefill_s > 0 ? static_cast<double>(n_prompt) / prefill_s : 0.0;
  log_info("prompt {} tokens in {:.3f} s ({:.1f}/s), answer {} tokens in {:.3f} s ({:.1f}/s), {}",
           n_prompt, prefill_s, prefill_tok_s, choice.n_tokens(), decode_s, decode_tok_s,
           whole.end.finish_reason);
  if (!json) return kDone;
  Json ids = Json::array();
  for (const openai::ScoredToken& token : whole.tokens) ids.push_back(value_of(token.token.id));
  Json calls = Json::array();
  for (const auto& call : whole.calls)
    calls.push_back(Json::object({{"name", call.name}, {"arguments", call.arguments}}));
  const Json document =
      Json::object({{"ids", std::move(ids)},
                    {"text", whole.content},
                    {"reasoning", whole.reasoning.empty() ? Json() : Json(whole.reasoning)},
                    {"tool_calls", std::move(calls)},
                    {"finish_reason", whole.end.finish_reason},
                    {"prompt_tokens", n_prompt},
                    {"timings", Json::object({{"load_s", load_s},
                                              {"prefill_s", prefill_s},
                                              {"decode_s", decode_s},
                                              {"prefill_tok_s", prefill_tok_s},
                                              {"decode_tok_s", decode_tok_s}})}});
  GEM8_RETURN_IF_ERROR(write_stdout(to_text(document) + "\n"));
  return kDone;
}

}  // namespace

Command add_generate(CLI::App& app, const CommonOptions& common) {
  auto options = std::make_shared<GenerateOptions>();
  CLI::App* generate = app.add_subcommand("generate", "One answer to one prompt, on stdout");
  generate->add_option("DIR", options->model, "Checkpoint folder, hub id, or demo")->required();
  generate->add_option("--prompt", options->prompt, "What to answer; - reads it from stdin")
      ->check(utf8_text())
      ->required();
  add_picture_options(*generate, options->pictures);
  generate->add_flag("--raw", options->raw,
                     "Continue the text itself: no chat template, no parsing");
  generate->add_flag("--think", options->thinking, "Let the model think first");
  generate->add_option("--max-tokens", options->max_tokens,
                       "Longest answer (default: what the context has room for)");
  generate->add_option("--temperature", options->temperature, "0 is greedy (default: the model's)");
  generate->add_option("--top-k", options->top_k, "Choose among the K best (default: the model's)");
  generate->add_option("--top-p", options->top_p,
                       "Choose among the best that make up P (default: the model's)");
  generate->add_option("--seed", options->seed,
                       "Same seed, same answer (default: drawn at random)");
  generate
      ->add_option("--activations", options->activations,
                   "bf16, or fp8 for the arithmetic of a GPU's W8A8")
      ->check(one_of({"bf16", "fp8"}));
  generate->add_option("--format", options->format, "text or json")
      ->check(one_of({"text", "json"}));
  return {generate, [options, &common]() -> Result<int> {
            if (options->prompt == "-") {
              GEM8_TRY(options->prompt, read_stdin());
            }
            if (options->raw && !options->pictures.files.empty())
              return fail(Code::kInvalidArgument, "--raw and --image do not go together");
            return run_generate(*options, common);
          }};
}

}  // namespace gem8::cli
