#include "server/app/loaded_model.h"

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <future>

#include "backend/device.h"
#include "formats/checkpoint.h"
#include "formats/companion_configs.h"
#include "formats/locate.h"
#include "foundation/log.h"
#include "foundation/mapped_file.h"
#include "foundation/thread_pool.h"
#include "kernels/ops.h"
#include "model/kv_cache.h"
#include "model/model.h"
#include "model/vision/tower.h"
#include "text/chat/chat_template.h"
#include "text/tokenizer/tokenizer.h"

namespace gem8::app {
namespace {

/// Without a word about memory the cache gets at most this much, as on the CPU backend of vLLM.
constexpr std::int64_t kDefaultCacheBytes = std::int64_t{4} << 30;

/// The largest image there is: the biggest budget of soft tokens.
constexpr std::int64_t kMaxImageTokens = 1120;

/// Memory of the machine, or of the control group when that is less.
std::int64_t machine_bytes() {
  std::int64_t bytes = static_cast<std::int64_t>(sysconf(_SC_PHYS_PAGES)) * sysconf(_SC_PAGESIZE);
  std::ifstream limit("/sys/fs/cgroup/memory.max");
  std::int64_t group = 0;
  if (limit >> group && group > 0) bytes = std::min(bytes, group);
  return bytes;
}

std::vector<TokenId> token_ids(const std::vector<int>& values, std::int64_t vocab) {
  std::vector<TokenId> ids;
  for (const int value : values) {
    if (value >= 0 && value < vocab) ids.push_back(TokenId{value});
  }
  return ids;
}

double gib(std::int64_t bytes) {
  return static_cast<double>(bytes) / 0x1p30;
}

class Stopwatch {
 public:
  explicit Stopwatch(std::vector<std::pair<std::string, double>>& laps) : laps_(laps) {}
  void lap(std::string name) {
    const Clock::time_point now = Clock::now();
    laps_.emplace_back(std::move(name), std::chrono::duration<double>(now - start_).count());
    start_ = now;
  }

 private:
  std::vector<std::pair<std::string, double>>& laps_;
  Clock::time_point start_ = Clock::now();
};

}  // namespace

struct LoadedModel::Parts {
  std::string name;
  std::shared_ptr<const Checkpoint> checkpoint;
  std::optional<Tokenizer> tokenizer;
  std::optional<ChatTemplate> chat;
  openai::GenerationDefaults defaults;
  int soft_tokens = 0;  // of an image, when nothing else is said
  MemoryPlan plan;
  std::vector<std::pair<std::string, double>> time_line;
  // In the order of their dependence: the engine goes first.
  std::unique_ptr<Device> device;
  std::unique_ptr<ThreadPool> pool;
  std::unique_ptr<Ops> ops;
  std::unique_ptr<Model> model;
  std::unique_ptr<VisionTower> tower;
  std::unique_ptr<KvCache> cache;
  std::unique_ptr<ModelRunner> runner;
  std::unique_ptr<Engine> engine;
};

namespace {

Result<openai::GenerationDefaults> read_defaults(const LoadOptions& options,
                                                 const GenerationConfig& config) {
  openai::GenerationDefaults defaults;
  if (!options.neutral_sampling) {
    defaults.temperature = config.temperature.value_or(defaults.temperature);
    defaults.top_p = config.top_p.value_or(defaults.top_p);
    defaults.min_p = config.min_p.value_or(defaults.min_p);
    defaults.top_k = config.top_k.value_or(0);
    defaults.repetition_penalty = config.repetition_penalty.value_or(defaults.repetition_penalty);
    if (config.max_new_tokens) {
      // What the operator says is a limit; what the model's makers say is only their habit.
      defaults.max_new_tokens = *config.max_new_tokens;
      if (!options.generation_config.empty()) defaults.most_new_tokens = *config.max_new_tokens;
    }
    if (config.do_sample && !*config.do_sample) defaults.temperature = 0.0;
  }
  if (options.override_generation_config.is_object()) {
    GEM8_TRY(const GenerationConfig over,
             parse_generation_config(options.override_generation_config));
    if (over.temperature) defaults.temperature = *over.temperature;
    if (over.top_p) defaults.top_p = *over.top_p;
    if (over.min_p) defaults.min_p = *over.min_p;
    if (over.top_k) defaults.top_k = *over.top_k;
    if (over.repetition_penalty) defaults.repetition_penalty = *over.repetition_penalty;
    if (over.max_new_tokens)
      defaults.max_new_tokens = defaults.most_new_tokens = *over.max_new_tokens;
  }
  return defaults;
}

/// The defaults stand in every request that does not say better: out of range they would refuse all
/// of these, one by one.
Status check_defaults(const openai::GenerationDefaults& defaults) {
  const SamplingParams params{
      .temperature = static_cast<float>(defaults.temperature),
      .top_p = static_cast<float>(defaults.top_p),
      .min_p = static_cast<float>(defaults.min_p),
      .top_k = defaults.top_k,
      .repetition_penalty = static_cast<float>(defaults.repetition_penalty),
  };
  Status status = check_sampling_params(params, /*vocab=*/0);
  if (!status) {
    return fail(status.error().code, "generation_config.json with --override-generation-config: {}",
                status.error().message);
  }
  return {};
}

/// The folder that --generation-config names must hold the file: the user did not ask for neutral
/// values.
Result<GenerationConfig> read_named_generation_config(const std::filesystem::path& folder) {
  std::error_code ignored;
  if (!std::filesystem::exists(folder / "generation_config.json", ignored)) {
    return fail(Code::kNotFound, "--generation-config {}: there is no generation_config.json",
                folder.string());
  }
  return read_generation_config(folder);
}

Status check_quantization(const std::string& wanted, const ModelConfig& config) {
  const std::string_view found =
      config.quantization ? quant_method_name(config.quantization->method) : "none";
  if (wanted.empty() || wanted == found) return {};
  return fail(Code::kInvalidArgument,
              "--quantization {}: the checkpoint's is {}, and it is served as it is: quantise with "
              "`gem8 quantize`",
              wanted, found);
}

/// Divides the memory: the cache gets what is asked for or left, but no more than max_num_seqs
/// requests can use.
Result<KvCacheOptions> plan_memory(const LoadOptions& options, const TextConfig& config,
                                   const KvCacheCost& cost, MemoryPlan& plan) {
  const std::int64_t model_limit = config.max_position_embeddings;
  const bool exact = options.max_model_len && *options.max_model_len > 0;
  if (exact && *options.max_model_len > model_limit) {
    return fail(Code::kInvalidArgument,
                "--max-model-len {}: the model's max_position_embeddings is {}",
                *options.max_model_len, model_limit);
  }
  plan.max_model_len = exact ? *options.max_model_len : model_limit;
  const auto bytes_of = [&](std::int64_t n_tokens) {
    return cost.full_pages(n_tokens) * cost.full_page_bytes +
           cost.sliding_pages(n_tokens, options.max_num_batched_tokens) * cost.sliding_page_bytes;
  };

  std::int64_t bytes = kDefaultCacheBytes;
  if (options.cache_bytes) {
    bytes = *options.cache_bytes;
  } else if (options.memory_share) {
    bytes = static_cast<std::int64_t>(static_cast<double>(plan.machine) * *options.memory_share) -
            plan.weights;
    if (bytes <= 0) {
      return fail(Code::kExhausted,
                  "No available memory for the cache blocks: {:.2f} of {:.2f} GiB is {:.2f} GiB, "
                  "the weights take {:.2f} GiB. Raise "
                  "--gpu-memory-utilization.",
                  *options.memory_share, gib(plan.machine),
                  gib(plan.machine) * *options.memory_share, gib(plan.weights));
    }
  }
  // What max_num_seqs full requests can use; plan_kv_cache() gives sliding layers no more than
  // half.
  const auto n_seqs = static_cast<double>(options.max_num_seqs);
  const double sliding =
      (n_seqs * static_cast<double>(cost.sliding_pages(plan.max_model_len, 1) + 2) +
       static_cast<double>(options.max_num_batched_tokens / KvLayer::kPageTokens + 2)) *
      static_cast<double>(cost.sliding_page_bytes);
  const double full = n_seqs * static_cast<double>(cost.full_pages(plan.max_model_len)) *
                      static_cast<double>(cost.full_page_bytes);
  const double useful = sliding + std::max(full, sliding);
  if (useful < static_cast<double>(bytes)) bytes = static_cast<std::int64_t>(useful);
  GEM8_TRY(const KvCacheOptions pages,
           plan_kv_cache(cost, bytes, options.max_num_seqs, options.max_num_batched_tokens));

  if (cost.full_page_bytes > 0 && pages.full_pages < cost.full_pages(plan.max_model_len)) {
    const std::int64_t fits = pages.full_pages * KvLayer::kPageTokens;
    if (exact) {
      return fail(Code::kExhausted,
                  "To serve at least one request with the model's max seq len ({}), {:.2f} GiB of "
                  "cache are needed, {:.2f} GiB are "
                  "available: the largest --max-model-len that fits is {}",
                  plan.max_model_len, gib(bytes_of(plan.max_model_len)), gib(bytes), fits);
    }
    log_info("max_model_len: {} instead of the model's {}, which is what {:.2f} GiB of cache hold",
             fits, model_limit, gib(bytes));
    plan.max_model_len = fits;
  }
  plan.cache =
      pages.full_pages * cost.full_page_bytes + pages.sliding_pages * cost.sliding_page_bytes;
  plan.full_requests = static_cast<double>(plan.cache) /
                       static_cast<double>(std::max<std::int64_t>(1, bytes_of(plan.max_model_len)));
  if (cost.full_page_bytes > 0) {
    plan.full_requests =
        std::min(plan.full_requests, static_cast<double>(pages.full_pages) /
                                         static_cast<double>(cost.full_pages(plan.max_model_len)));
  }
  return pages;
}

Result<std::optional<ChatTemplate>> load_chat_template(const LoadOptions& options,
                                                       const std::filesystem::path& dir) {
  if (!options.chat_template.empty()) {
    GEM8_TRY(const std::string source, read_text_file(options.chat_template));
    Result<ChatTemplate> chat = ChatTemplate::parse(source);
    if (!chat) return fail_in(options.chat_template, std::move(chat).error());
    return *std::move(chat);
  }
  Result<ChatTemplate> chat = ChatTemplate::load(dir);
  if (!chat && chat.error().code == Code::kNotFound) {
    log_warning("{}: no chat template, chat requests will be refused", dir.string());
    return std::nullopt;
  }
  if (!chat) return std::unexpected(std::move(chat).error());
  return *std::move(chat);
}

/// The field that a template's complaint is about: the one without which there is none. The
/// template sees all of them together, and says only what it does not like.
std::string field_of_complaint(const ChatTemplate& chat, const Json& body) {
  for (const char* field : {"tools", "chat_template_kwargs"}) {
    const Json* value = body.find(field);
    if (value == nullptr || value->is_null() || *value == Json::object()) continue;
    Json without = body;
    without.set(field, Json());
    if (render_chat(chat, without)) return field;
  }
  return "messages";
}

}  // namespace

LoadedModel::LoadedModel(std::unique_ptr<Parts> parts) : parts_(std::move(parts)) {}
LoadedModel::~LoadedModel() = default;

Result<std::unique_ptr<LoadedModel>> LoadedModel::load(const LoadOptions& wanted) {
  LoadOptions options = wanted;
  auto parts = std::make_unique<Parts>();
  Stopwatch watch(parts->time_line);
  parts->name = options.model;
  GEM8_TRY(const std::filesystem::path dir, resolve_model_dir(options.model));
  // The vocabulary takes as long as everything else together: read it meanwhile.
  auto tokenizer = std::async(std::launch::async, [&dir] { return Tokenizer::load(dir); });
  GEM8_TRY(Checkpoint checkpoint, Checkpoint::open(dir));
  parts->checkpoint = std::make_shared<const Checkpoint>(std::move(checkpoint));
  GEM8_RETURN_IF_ERROR(check_quantization(options.quantization, parts->checkpoint->config()));
  GEM8_TRY(const GenerationConfig model_generation, read_generation_config(dir));
  GenerationConfig generation = model_generation;
  if (!options.generation_config.empty()) {
    GEM8_TRY(generation, read_named_generation_config(options.generation_config));
  }
  GEM8_TRY(parts->defaults, read_defaults(options, generation));
  GEM8_RETURN_IF_ERROR(check_defaults(parts->defaults));
  GEM8_TRY(parts->chat, load_chat_template(options, dir));
  watch.lap("checkpoint");

  const ModelConfig& config = parts->checkpoint->config();
  const bool images = options.images && config.vision && !config.text_only_class;
  if (images) {
    options.max_num_batched_tokens =
        std::max(options.max_num_batched_tokens, kMaxImageTokens + options.max_num_seqs);
  }
  parts->plan.max_num_batched_tokens = options.max_num_batched_tokens;
  parts->device = make_cpu_device();
  parts->pool = std::make_unique<ThreadPool>(options.n_threads);
  OpsOptions ops_options;
  if (options.fp8_activations) ops_options.activations = Activations::kFP8;
  GEM8_TRY(parts->ops, make_cpu_ops(*parts->device, *parts->pool, ops_options));
  GEM8_TRY(parts->model, Model::load(parts->checkpoint, *parts->ops,
                                     {.max_batch_tokens = options.max_num_batched_tokens}));
  if (images) {
    Result<std::unique_ptr<VisionTower>> tower = VisionTower::load(parts->checkpoint, *parts->ops);
    if (tower) {
      parts->tower = *std::move(tower);
      GEM8_TRY(parts->soft_tokens, read_image_soft_tokens(dir, config));
    } else if (tower.error().code == Code::kUnsupported) {
      log_warning("images will be refused: {}", tower.error().text());
    } else {
      return std::unexpected(std::move(tower).error());
    }
  }
  watch.lap("model");

  parts->plan.weights = static_cast<std::int64_t>(parts->checkpoint->tensor_bytes());
  parts->plan.machine = machine_bytes();
  const KvCacheCost cost = kv_cache_cost(config.text, parts->ops->activation_dtype());
  GEM8_TRY(const KvCacheOptions pages, plan_memory(options, config.text, cost, parts->plan));
  GEM8_TRY(parts->cache, KvCache::create(config.text, *parts->ops, pages));
  parts->runner = make_model_runner(*parts->model, *parts->cache, cost, parts->tower.get());
  watch.lap("cache");

  Result<Tokenizer> loaded = tokenizer.get();
  if (!loaded) return std::unexpected(std::move(loaded).error());
  parts->tokenizer = *std::move(loaded);
  watch.lap("tokenizer");

  const std::int64_t vocab = parts->model->vocab();
  if (static_cast<std::int64_t>(parts->tokenizer->vocab_size()) > vocab) {
    log_warning("{}: the tokenizer knows {} tokens, the model {}", dir.string(),
                parts->tokenizer->vocab_size(), vocab);
  }
  EngineOptions engine_options{.max_model_len = parts->plan.max_model_len,
                               .max_num_seqs = options.max_num_seqs,
                               .max_num_batched_tokens = options.max_num_batched_tokens,
                               .max_queued = options.max_queued};
  EndTokens& ends = engine_options.end_tokens;
  // The end tokens are the model's whatever the sampling defaults are taken from.
  ends.eos = token_ids(model_generation.eos_token_ids.empty() ? config.eos_token_ids
                                                              : model_generation.eos_token_ids,
                       vocab);
  ends.suppress = token_ids(model_generation.suppress_tokens, vocab);
  const std::vector<TokenId> text_eos = token_ids(config.text.eos_token_ids, vocab);
  if (!text_eos.empty()) ends.primary = text_eos.front();
  for (const std::optional<int>& placeholder :
       {config.tokens.image, config.tokens.video, config.tokens.audio}) {
    if (placeholder && *placeholder < vocab) ends.placeholders.push_back(TokenId{*placeholder});
  }
  GEM8_TRY(parts->engine, Engine::start(*parts->runner, *parts->pool, engine_options));
  watch.lap("engine");
  return std::unique_ptr<LoadedModel>(new LoadedModel(std::move(parts)));
}

Engine& LoadedModel::engine() {
  return *parts_->engine;
}
const Tokenizer& LoadedModel::tokenizer() const {
  return *parts_->tokenizer;
}
const MemoryPlan& LoadedModel::plan() const {
  return parts_->plan;
}
bool LoadedModel::takes_images() const {
  return parts_->tower != nullptr;
}
int LoadedModel::default_soft_tokens() const {
  return parts_->soft_tokens;
}
const std::vector<std::pair<std::string, double>>& LoadedModel::time_line() const {
  return parts_->time_line;
}

ServedModel LoadedModel::served(std::vector<std::string> names) const {
  ServedModel served;
  served.names = std::move(names);
  if (served.names.empty()) served.names.push_back(parts_->name);
  served.root = parts_->name;
  served.max_model_len = parts_->plan.max_model_len;
  served.tokenizer = &*parts_->tokenizer;
  served.bos = TokenId{parts_->checkpoint->config().text.bos_token_id};
  served.defaults = parts_->defaults;
  const ModelConfig& config = parts_->checkpoint->config();
  if (!config.text_only_class) served.media_tokens = config.tokens;
  served.render =
      [parts = parts_.get()](const openai::ChatRequest& request) -> Result<std::vector<TokenId>> {
    if (!parts->chat)
      return fail(Code::kUnsupported,
                  "{} has no chat template: texts can be completed (/v1/completions, generate "
                  "--raw), chats cannot be answered",
                  parts->name);
    Json body = Json::object({{"messages", request.messages},
                              {"chat_template_kwargs", request.template_kwargs},
                              {"add_generation_prompt", request.add_generation_prompt}});
    if (request.tool_choice != openai::ToolChoice::kNone) body.set("tools", request.tools);
    Result<std::string> text = render_chat(*parts->chat, body);
    if (!text) {
      const Error error = std::move(text).error();
      // Beyond the template's limits is no passing shortage: the same messages meet the same limit
      // again.
      if (error.code == Code::kExhausted)
        return std::unexpected(Error{Code::kInvalidArgument, error.text(), "messages"});
      return std::unexpected(
          Error{error.code, error.text(), field_of_complaint(*parts->chat, body)});
    }
    return parts->tokenizer->encode(*text);
  };
  return served;
}

std::string with_commas(std::int64_t value) {
  std::string digits = std::to_string(value);
  for (std::ptrdiff_t i = std::ssize(digits) - 3; i > (value < 0 ? 1 : 0); i -= 3)
    digits.insert(static_cast<std::size_t>(i), 1, ',');
  return digits;
}

}  // namespace gem8::app
