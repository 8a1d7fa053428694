// gem8 trace DIR: one forward pass, everything written down.
#include <algorithm>
#include <charconv>
#include <memory>
#include <optional>
#include <string>

#include "backend/device.h"
#include "cli/command.h"
#include "cli/json_input.h"
#include "cli/pictures.h"
#include "cli/validators.h"
#include "formats/checkpoint.h"
#include "formats/locate.h"
#include "foundation/log.h"
#include "foundation/mapped_file.h"
#include "foundation/thread_pool.h"
#include "model/trace.h"
#include "model/vision/tower.h"
#include "text/chat/chat_template.h"
#include "text/tokenizer/tokenizer.h"

namespace gem8::cli {
namespace {

struct Options {
  std::string checkpoint;
  std::optional<std::string> tokens;
  std::optional<std::string> tokens_file;
  std::string prompt;
  std::string request;
  PictureOptions pictures;
  std::string dtype = "bfloat16";
  std::string activations = "bf16";
  std::int64_t chunk = 0;
  std::string output;
};

Result<Json> read_json(const std::string& path) {
  GEM8_TRY(const std::string text, read_text_file(path));
  auto json = parse_json(text);
  if (!json) return fail_in(path, std::move(json).error());
  return json;
}

/// "2,5,7".
Result<std::vector<TokenId>> parse_ids(std::string_view text) {
  std::vector<TokenId> ids;
  while (true) {
    const std::size_t comma = text.find(',');
    const std::string_view item = text.substr(0, comma);
    std::int32_t id = 0;
    const auto [end, error] = std::from_chars(item.data(), item.data() + item.size(), id);
    if (error != std::errc() || end != item.data() + item.size()) {
      return fail(Code::kInvalidArgument, "--tokens: '{}' is no token id", item);
    }
    ids.push_back(TokenId{id});
    if (comma == std::string_view::npos) return ids;
    text.remove_prefix(comma + 1);
  }
}

struct Input {
  std::vector<TokenId> tokens;
  std::vector<PromptImage> images;
};

/// A prompt as the server would make it: text is one user message, after its pictures.
Result<Input> render(const Options& options, const std::filesystem::path& dir,
                     PicturePlacer& pictures) {
  GEM8_TRY(const ChatTemplate chat, ChatTemplate::load(dir));
  GEM8_TRY(const Tokenizer tokenizer, Tokenizer::load(dir));
  Json request = user_request(options.prompt, options.pictures.files.size());
  if (!options.request.empty()) {
    GEM8_TRY(request, read_json(options.request));
  }
  GEM8_TRY(const std::string text, render_chat(chat, request));
  Input input{.tokens = tokenizer.encode(text), .images = {}};
  auto images = pictures.expand(request, input.tokens);
  if (!images && !options.request.empty()) return fail_in(options.request, images.error());
  if (!images) return std::unexpected(images.error());
  input.images = *std::move(images);
  return input;
}

Result<Input> read_input(const Options& options, const std::filesystem::path& dir) {
  PicturePlacer pictures(dir, options.pictures);
  if (!options.tokens && !options.tokens_file) return render(options, dir, pictures);
  Input input;
  if (options.tokens) {
    GEM8_TRY(input.tokens, parse_ids(*options.tokens));
  } else {
    GEM8_TRY(const Json json, read_json(*options.tokens_file));
    auto ids = ids_of(json);
    if (!ids) return fail_in(*options.tokens_file, std::move(ids).error());
    input.tokens = *std::move(ids);
  }
  GEM8_TRY(input.images, pictures.find(input.tokens));
  return input;
}

Result<int> run_trace(const Options& options, const CommonOptions& common) {
  GEM8_TRY(const std::filesystem::path dir, resolve_model_dir(options.checkpoint));
  GEM8_TRY(Checkpoint checkpoint, Checkpoint::open(dir));
  GEM8_TRY(const Input input, read_input(options, dir));
  const std::vector<TokenId>& tokens = input.tokens;

  const std::unique_ptr<Device> device = make_cpu_device();
  ThreadPool pool(common.thread_count());
  GEM8_TRY(
      const std::unique_ptr<Ops> ops,
      make_cpu_ops(
          *device, pool,
          {.activation_dtype = options.dtype == "float32" ? DType::kF32 : DType::kBF16,
           .activations = options.activations == "fp8" ? Activations::kFP8 : Activations::kBF16}));
  const std::int64_t step =
      options.chunk > 0 ? options.chunk : static_cast<std::int64_t>(tokens.size());
  const auto weights = std::make_shared<const Checkpoint>(std::move(checkpoint));
  GEM8_TRY(const std::unique_ptr<Model> model,
           Model::load(weights, *ops, {.max_batch_tokens = std::max<std::int64_t>(1, step)}));
  Trace trace(*device);
  std::vector<SoftTokenMatrix> encoded;
  std::vector<SoftTokens> soft;
  if (!input.images.empty()) {
    GEM8_TRY(const std::unique_ptr<VisionTower> tower, VisionTower::load(weights, *ops));
    std::vector<const Patches*> patches;
    for (const PromptImage& image : input.images) patches.push_back(image.patches.get());
    GEM8_TRY(encoded, trace_images(*tower, patches, trace));
    for (std::size_t i = 0; i < encoded.size(); ++i)
      soft.push_back({.offset = input.images[i].position, .rows = encoded[i].rows});
  }
  GEM8_RETURN_IF_ERROR(trace_sequence(*model, tokens, soft, options.chunk, trace));
  GEM8_RETURN_IF_ERROR(trace.write(options.output));
  log_info("{} tokens and {} images traced to {}", tokens.size(), input.images.size(),
           options.output);
  return kDone;
}

}  // namespace

Command add_trace(CLI::App& app, const CommonOptions& common) {
  const auto options = std::make_shared<Options>();
  CLI::App* command =
      app.add_subcommand("trace", "Run one forward pass and write every tensor of it down");
  command
      ->add_option("DIR", options->checkpoint, "Checkpoint folder, hub id in the cache, or 'demo'")
      ->required();
  auto* input = command->add_option_group("input", "What to run");
  input->add_option("--tokens", options->tokens, "Token ids: 2,5,7");
  input->add_option("--tokens-file", options->tokens_file, "JSON file with a list of token ids");
  input->add_option("--prompt", options->prompt, "Text of one user message")->check(utf8_text());
  input->add_option("--request", options->request, "JSON file with a chat request");
  input->require_option(1);
  add_picture_options(*command, options->pictures);
  add_local_media_option(*command, options->pictures);
  command->add_option("--dtype", options->dtype, "Arithmetic: float32 is the reference path")
      ->check(one_of({"float32", "bfloat16"}));
  command
      ->add_option("--activations", options->activations,
                   "How linears with FP8 weights read their input: bf16, or fp8 as GPUs do")
      ->check(one_of({"bf16", "fp8"}));
  command->add_option("--chunk", options->chunk, "Tokens of a step (default: all at once)")
      ->check(between(1, 1 << 20));
  command->add_option("-o,--output", options->output, "Safetensors file to write")->required();
  return {command, [options, &common] { return run_trace(*options, common); }};
}

}  // namespace gem8::cli
