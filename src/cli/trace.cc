// gem8 trace DIR: one forward pass, everything written down.
#include <algorithm>
#include <charconv>
#include <memory>
#include <optional>
#include <string>

#include "backend/device.h"
#include "cli/command.h"
#include "cli/json_input.h"
#include "formats/checkpoint.h"
#include "formats/locate.h"
#include "foundation/log.h"
#include "foundation/mapped_file.h"
#include "foundation/thread_pool.h"
#include "model/trace.h"
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

/// The ids of a prompt as the server would make them: text is one user message.
Result<std::vector<TokenId>> render(const Options& options, const std::filesystem::path& dir) {
  GEM8_TRY(const ChatTemplate chat, ChatTemplate::load(dir));
  GEM8_TRY(const Tokenizer tokenizer, Tokenizer::load(dir));
  Json request = Json::object(
      {{"messages", Json::array({Json::object({{"role", "user"}, {"content", options.prompt}})})}});
  if (!options.request.empty()) {
    GEM8_TRY(request, read_json(options.request));
    const Json* messages = request.find("messages");
    if (messages != nullptr && !image_parts(*messages).empty()) {
      return fail(Code::kUnsupported, "{}: has images, which trace does not read from a request",
                  options.request);
    }
  }
  GEM8_TRY(const std::string text, render_chat(chat, request));
  return tokenizer.encode(text);
}

Result<std::vector<TokenId>> token_ids(const Options& options, const std::filesystem::path& dir) {
  if (options.tokens) return parse_ids(*options.tokens);
  if (!options.tokens_file) return render(options, dir);
  GEM8_TRY(const Json json, read_json(*options.tokens_file));
  auto ids = ids_of(json);
  if (!ids) return fail_in(*options.tokens_file, std::move(ids).error());
  return ids;
}

Result<int> run_trace(const Options& options, const CommonOptions& common) {
  GEM8_TRY(const std::filesystem::path dir, resolve_model_dir(options.checkpoint));
  GEM8_TRY(Checkpoint checkpoint, Checkpoint::open(dir));
  GEM8_TRY(const std::vector<TokenId> tokens, token_ids(options, dir));

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
  GEM8_TRY(const std::unique_ptr<Model> model,
           Model::load(std::make_shared<const Checkpoint>(std::move(checkpoint)), *ops,
                       {.max_batch_tokens = std::max<std::int64_t>(1, step)}));
  Trace trace(*device);
  GEM8_RETURN_IF_ERROR(trace_sequence(*model, tokens, {}, options.chunk, trace));
  if (auto written = trace.write(options.output); !written)
    return fail_in(options.output, std::move(written).error());
  log_info("{} tokens traced to {}", tokens.size(), options.output);
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
  input->add_option("--prompt", options->prompt, "Text of one user message");
  input->add_option("--request", options->request, "JSON file with a chat request");
  input->require_option(1);
  command->add_option("--dtype", options->dtype, "Arithmetic: float32 is the reference path")
      ->check(CLI::IsMember({"float32", "bfloat16"}));
  command
      ->add_option("--activations", options->activations,
                   "How linears with FP8 weights read their input: bf16, or fp8 as GPUs do")
      ->check(CLI::IsMember({"bf16", "fp8"}));
  command->add_option("--chunk", options->chunk, "Tokens of a step (default: all at once)")
      ->check(CLI::PositiveNumber);
  command->add_option("-o,--output", options->output, "Safetensors file to write")->required();
  return {command, [options, &common] { return run_trace(*options, common); }};
}

}  // namespace gem8::cli
