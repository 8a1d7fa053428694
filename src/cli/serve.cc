// gem8 serve: the OpenAI-compatible server, with vLLM's flags.
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <random>

#include "cli/command.h"
#include "foundation/guarded.h"
#include "foundation/log.h"
#include "server/app/api.h"
#include "server/app/flags.h"
#include "server/app/loaded_model.h"
#include "server/http/server.h"
#include "server/media/image_service.h"

namespace gem8::cli {
namespace {

void print_plan(const app::MemoryPlan& plan, const app::LoadOptions& options) {
  const auto gib = [](std::int64_t bytes) { return static_cast<double>(bytes) / 0x1p30; };
  log_info("memory plan: {:.2f} GiB of weights (mapped), {:.2f} GiB of cache, of {:.2f} GiB",
           gib(plan.weights), gib(plan.cache), gib(plan.machine));
  log_info("Available KV cache memory: {:.2f} GiB", gib(plan.cache));
  log_info("GPU KV cache size: {} tokens, Maximum concurrency for {} tokens per request: {:.2f}x",
           app::with_commas(static_cast<std::int64_t>(plan.full_requests *
                                                      static_cast<double>(plan.max_model_len))),
           app::with_commas(plan.max_model_len), plan.full_requests);
  log_info("steps of at most {} tokens, {} requests in a batch", options.max_num_batched_tokens,
           options.max_num_seqs);
}

/// The host as it stands in URLs: IPv6 addresses in brackets.
std::string url_host(const std::string& host) {
  return host.find(':') == std::string::npos ? host : fmt::format("[{}]", host);
}

/// A setting that vLLM takes from the environment.
std::optional<std::int64_t> environment_integer(const char* name) {
  constexpr std::int64_t kMost = std::int64_t{1} << 40;
  const char* text = std::getenv(name);
  const auto value = text != nullptr ? app::parse_human_integer(text) : std::nullopt;
  return value && *value >= 0 && *value < kMost ? value : std::nullopt;
}

MediaSources media_sources(const app::ServeFlags& flags) {
  MediaSources sources;
  sources.remote.allowed_hosts = flags.allowed_media_domains;
  sources.local_folder = flags.allowed_local_media_path;
  if (const auto seconds = environment_integer("VLLM_IMAGE_FETCH_TIMEOUT");
      seconds && *seconds > 0 && *seconds < 86400) {
    sources.remote.timeout = std::chrono::seconds(*seconds);
  }
  if (environment_integer("VLLM_MEDIA_URL_ALLOW_REDIRECTS") == 0) sources.remote.max_redirects = 0;
  return sources;
}

/// Null when the model takes no images, or none are wanted.
std::unique_ptr<ImageService> image_service(MediaLoader loader, const app::ServeFlags& flags,
                                            const app::LoadedModel& model) {
  if (!model.takes_images()) return nullptr;
  ImageOptions options;
  if (flags.max_images) options.max_images = *flags.max_images;
  options.soft_tokens = flags.soft_tokens.value_or(model.default_soft_tokens());
  options.alpha = flags.alpha;
  if (const auto pixels = environment_integer("VLLM_MAX_IMAGE_PIXELS"); pixels && *pixels > 0) {
    options.limits.max_pixels = *pixels;
  }
  // Decoding beside the engine's threads, which have the cores. Two bound what the largest pictures
  // take at a time to less than 1 GiB.
  constexpr std::size_t kThreads = 2;
  return std::make_unique<ImageService>(std::move(loader), options, kThreads);
}

app::LoadOptions load_options(const app::ServeFlags& flags, const CommonOptions& common) {
  app::LoadOptions options{.model = flags.model,
                           .n_threads = common.thread_count(),
                           .fp8_activations = flags.fp8_activations,
                           .max_model_len = flags.max_model_len,
                           .memory_share = flags.gpu_memory_utilization,
                           .cache_bytes = flags.kv_cache_memory_bytes,
                           .max_queued = flags.max_num_queued_reqs,
                           .chat_template = flags.chat_template,
                           .neutral_sampling = flags.neutral_sampling,
                           .generation_config = flags.generation_config,
                           .override_generation_config = flags.override_generation_config,
                           .quantization = flags.quantization,
                           .images = flags.max_images != 0u};
  options.max_num_batched_tokens = flags.max_num_batched_tokens.value_or(
      std::max(options.max_num_batched_tokens, flags.max_num_seqs.value_or(0)));
  options.max_num_seqs =
      flags.max_num_seqs.value_or(std::min(options.max_num_seqs, options.max_num_batched_tokens));
  return options;
}

http::ServerOptions server_options(const app::ServeFlags& flags) {
  http::ServerOptions options{.host = flags.host,
                              .port = flags.port,
                              .drain_timeout = std::chrono::seconds(flags.shutdown_timeout_s),
                              .max_header_bytes = flags.max_header_bytes,
                              .max_headers = flags.max_headers,
                              .access_log = flags.access_log,
                              .error_response = &app::Api::transport_error};
  if (const auto seconds = environment_integer("VLLM_HTTP_TIMEOUT_KEEP_ALIVE");
      seconds && *seconds > 0 && *seconds < 86400) {
    options.idle_timeout = std::chrono::seconds(*seconds);
  }
  return options;
}

/// The clock and the dice of the real world; with a seed the dice fall the same way every time.
app::Ambient ambient(std::optional<std::uint64_t> seed) {
  auto random = std::make_shared<Guarded<std::mt19937_64>>();
  random->with([&](std::mt19937_64& engine) {
    engine.seed(seed ? *seed : std::random_device{}() * 0x100000001ull ^ std::random_device{}());
  });
  return {.unix_seconds = [] { return static_cast<std::int64_t>(std::time(nullptr)); },
          .random =
              [random] {
                return random->with(
                    [](std::mt19937_64& engine) { return static_cast<std::uint64_t>(engine()); });
              }};
}

Result<int> run_serve(const std::vector<std::string>& words, const CommonOptions& common) {
  GEM8_TRY(app::ServeFlags flags, app::parse_serve_flags(words));
  if (flags.help) {
    GEM8_RETURN_IF_ERROR(write_stdout(
        "gem8 serve DIR [flags], or gem8 serve --model DIR [flags]\n\n" + app::serve_flags_help()));
    return kDone;
  }
  if (flags.model.empty())
    return fail(Code::kInvalidArgument,
                "serve: which model? gem8 serve DIR, or gem8 serve --model DIR");
  for (const std::string& note : flags.notes) log_info("{}", note);
  if (const char* key = std::getenv("VLLM_API_KEY");
      key != nullptr && flags.api_keys.empty() && *key != '\0')
    flags.api_keys.push_back(key);

  const Clock::time_point start = Clock::now();
  const http::ServerOptions transport = server_options(flags);
  // The port is taken first, so that a conflict shows before gigabytes are read; connections are
  // refused until all is ready.
  GEM8_TRY(const std::unique_ptr<http::Server> server, http::Server::bind(transport));
  GEM8_TRY(MediaLoader media, MediaLoader::create(media_sources(flags)));
  const app::LoadOptions options = load_options(flags, common);
  GEM8_TRY(const std::unique_ptr<app::LoadedModel> model, app::LoadedModel::load(options));
  print_plan(model->plan(), options);
  const std::unique_ptr<ImageService> images = image_service(std::move(media), flags, *model);

  app::ApiOptions api_options{.version = GEM8_VERSION,
                              .api_keys = flags.api_keys,
                              .allowed_origins = flags.allowed_origins,
                              .root_path = flags.root_path,
                              .default_template_kwargs = flags.default_template_kwargs,
                              .sse_keep_alive_seconds = static_cast<int>(flags.sse_keep_alive_s),
                              .force_include_usage = flags.force_include_usage};
  app::Api api(model->engine(), model->served(flags.served_model_names), images.get(),
               std::move(api_options), ambient(flags.seed));
  GEM8_RETURN_IF_ERROR(server->listen());

  std::string line;
  for (const auto& [stage, seconds] : model->time_line())
    line += fmt::format("{} {:.3f} s, ", stage, seconds);
  log_info("ready after {:.3f} s: {}{} threads",
           std::chrono::duration<double>(Clock::now() - start).count(), line,
           common.thread_count());
  log_info("Application startup complete.");
  log_info("Uvicorn running on http://{}:{} (Press CTRL+C to quit)", url_host(flags.host),
           server->port());
  const int signal = server->run([&api](http::Exchange& exchange) { return api.handle(exchange); });
  log_info("stopped");
  return signal == SIGINT ? 130 : kDone;
}

}  // namespace

Command add_serve(CLI::App& app, const CommonOptions& common) {
  CLI::App* serve =
      app.add_subcommand("serve", "Serve a checkpoint over the OpenAI API, with vLLM's flags");
  serve->allow_extras();
  serve->footer(app::serve_flags_help());
  return {serve, [serve, &common] { return run_serve(serve->remaining(), common); }};
}

}  // namespace gem8::cli
