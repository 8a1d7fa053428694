#include "server/app/metrics.h"

#include <prometheus/counter.h>
#include <prometheus/family.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

#include <algorithm>
#include <array>
#include <mutex>
#include <sstream>
#include <vector>

namespace gem8::app {
namespace {

using Buckets = prometheus::Histogram::BucketBoundaries;

const Buckets kFirstTokenSeconds = {.001, .005, .01, .02, .04, .06, .08, .1, .25, .5,  .75,
                                    1,    2.5,  5,   7.5, 10,  20,  40,  80, 160, 640, 2560};
const Buckets kTokenSeconds = {.01, .025, .05, .075, .1,  .15, .2, .3, .4, .5,
                               .75, 1,    2.5, 5,    7.5, 10,  20, 40, 80};
const Buckets kRequestSeconds = {.3, .5, .8, 1,  1.5, 2,   2.5, 5,   10,   15,  20,
                                 30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680};
const Buckets kChoices = {1, 2, 5, 10, 20};

/// 1, 2, 5, 10, 20, 50, ... up to the limit.
Buckets one_two_five(std::int64_t limit) {
  Buckets buckets;
  for (std::int64_t power = 1; power <= limit; power *= 10) {
    for (const std::int64_t factor : {1, 2, 5}) {
      if (power * factor <= limit) buckets.push_back(static_cast<double>(power * factor));
    }
  }
  return buckets;
}

/// A label takes its values from here: each one that a client made up would be a series for good.
std::string_view method_label(std::string_view method) {
  constexpr std::array<std::string_view, 9> kMethods = {
      "GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"};
  return std::ranges::find(kMethods, method) != kMethods.end() ? method : "other";
}

double seconds(Clock::duration duration) {
  return std::chrono::duration<double>(duration).count();
}

}  // namespace

struct Metrics::State {
  prometheus::Registry registry;
  prometheus::Labels labels;
  Buckets token_buckets;
  std::mutex scrape;  // counters that follow the engine's totals advance by differences

  prometheus::Gauge& gauge(const char* name, const char* help) {
    return prometheus::BuildGauge().Name(name).Help(help).Register(registry).Add(labels);
  }
  prometheus::Counter& counter(const char* name, const char* help) {
    return prometheus::BuildCounter().Name(name).Help(help).Register(registry).Add(labels);
  }
  prometheus::Histogram& histogram(const char* name, const char* help, const Buckets& buckets) {
    return prometheus::BuildHistogram().Name(name).Help(help).Register(registry).Add(labels,
                                                                                     buckets);
  }

  State(const std::string& model_name, std::int64_t max_model_len)
      : labels{{"model_name", model_name}, {"engine", "0"}},
        token_buckets(one_two_five(max_model_len)) {}

  prometheus::Gauge& running =
      gauge("vllm:num_requests_running", "Number of requests in model execution batches.");
  prometheus::Gauge& waiting =
      gauge("vllm:num_requests_waiting", "Number of requests waiting to be processed.");
  prometheus::Gauge& cache_usage =
      gauge("vllm:kv_cache_usage_perc", "KV-cache usage. 1 means 100 percent usage.");
  prometheus::Gauge& gpu_cache_usage =
      gauge("vllm:gpu_cache_usage_perc", "Older name of vllm:kv_cache_usage_perc.");
  prometheus::Counter& preemptions =
      counter("vllm:num_preemptions_total", "Cumulative number of preemptions from the engine.");
  prometheus::Counter& prompt_tokens =
      counter("vllm:prompt_tokens_total", "Number of prefill tokens processed.");
  prometheus::Counter& generation_tokens =
      counter("vllm:generation_tokens_total", "Number of generation tokens processed.");
  prometheus::Family<prometheus::Counter>& success =
      prometheus::BuildCounter()
          .Name("vllm:request_success_total")
          .Help("Count of successfully processed requests.")
          .Register(registry);
  prometheus::Counter& image_queries =
      counter("vllm:mm_cache_queries_total", "Images whose soft tokens were needed.");
  prometheus::Counter& image_hits =
      counter("vllm:mm_cache_hits_total", "Images whose soft tokens were there already.");
  prometheus::Histogram& request_prompt_tokens =
      histogram("vllm:request_prompt_tokens", "Number of prefill tokens processed.", token_buckets);
  prometheus::Histogram& request_generation_tokens = histogram(
      "vllm:request_generation_tokens", "Number of generation tokens processed.", token_buckets);
  prometheus::Histogram& request_max_tokens =
      histogram("vllm:request_params_max_tokens", "Histogram of the max_tokens request parameter.",
                token_buckets);
  prometheus::Histogram& request_n =
      histogram("vllm:request_params_n", "Histogram of the n request parameter.", kChoices);
  prometheus::Histogram& first_token =
      histogram("vllm:time_to_first_token_seconds", "Histogram of time to first token in seconds.",
                kFirstTokenSeconds);
  prometheus::Histogram& token_gap =
      histogram("vllm:inter_token_latency_seconds", "Histogram of inter-token latency in seconds.",
                kTokenSeconds);
  prometheus::Histogram& per_token =
      histogram("vllm:request_time_per_output_token_seconds",
                "Histogram of time per output token in seconds per request.", kTokenSeconds);
  prometheus::Histogram& whole_request =
      histogram("vllm:e2e_request_latency_seconds", "Histogram of e2e request latency in seconds.",
                kRequestSeconds);
  prometheus::Histogram& queue_time =
      histogram("vllm:request_queue_time_seconds",
                "Histogram of time spent in WAITING phase for request.", kRequestSeconds);
  prometheus::Histogram& inference_time =
      histogram("vllm:request_inference_time_seconds",
                "Histogram of time spent in RUNNING phase for request.", kRequestSeconds);
  prometheus::Histogram& prefill_time =
      histogram("vllm:request_prefill_time_seconds",
                "Histogram of time spent in PREFILL phase for request.", kRequestSeconds);
  prometheus::Histogram& decode_time =
      histogram("vllm:request_decode_time_seconds",
                "Histogram of time spent in DECODE phase for request.", kRequestSeconds);
  prometheus::Family<prometheus::Counter>& http =
      prometheus::BuildCounter()
          .Name("http_requests_total")
          .Help("Total number of requests by method, status and handler.")
          .Register(registry);
};

Metrics::Metrics(const std::string& model_name, std::int64_t max_model_len)
    : state_(std::make_unique<State>(model_name, max_model_len)) {
  // Series that dashboards divide by must exist before the first request.
  for (const char* reason : {"stop", "length", "abort", "error"}) {
    auto labels = state_->labels;
    labels["finished_reason"] = reason;
    state_->success.Add(labels);
  }
}

Metrics::~Metrics() = default;

void Metrics::observe(const AnswerRecord& record) {
  auto labels = state_->labels;
  labels["finished_reason"] =
      std::string(record.finish_reason == "tool_calls" ? "stop" : record.finish_reason);
  state_->success.Add(labels).Increment();
  state_->request_prompt_tokens.Observe(static_cast<double>(record.prompt_tokens));
  state_->request_generation_tokens.Observe(static_cast<double>(record.output_tokens));
  if (record.max_tokens > 0)
    state_->request_max_tokens.Observe(static_cast<double>(record.max_tokens));
  state_->request_n.Observe(static_cast<double>(record.n));
  const RequestTimes& times = record.times;
  if (times.first_token == Clock::time_point{}) return;
  state_->first_token.Observe(seconds(times.first_token - record.received));
  state_->whole_request.Observe(seconds(times.last_token - record.received));
  state_->queue_time.Observe(seconds(times.scheduled - times.queued));
  state_->prefill_time.Observe(seconds(times.first_token - times.scheduled));
  state_->inference_time.Observe(seconds(times.last_token - times.scheduled));
  const double decode = seconds(times.last_token - times.first_token);
  state_->decode_time.Observe(decode);
  if (record.output_tokens > 1)
    state_->per_token.Observe(decode / static_cast<double>(record.output_tokens - 1));
}

void Metrics::observe_token_gap(double gap) {
  state_->token_gap.Observe(gap);
}

void Metrics::observe_http(std::string_view handler, std::string_view method, int status) {
  state_->http
      .Add({{"handler", std::string(handler)},
            {"method", std::string(method_label(method))},
            {"status", fmt::format("{}xx", status / 100)}})
      .Increment();
}

std::string Metrics::text(const EngineStats& engine) {
  const std::lock_guard lock(state_->scrape);
  const auto usage = [](std::int64_t used, std::int64_t total) {
    return total > 0 ? static_cast<double>(used) / static_cast<double>(total) : 0.0;
  };
  const double used = std::max(usage(engine.used_pages.full, engine.total_pages.full),
                               usage(engine.used_pages.sliding, engine.total_pages.sliding));
  state_->running.Set(static_cast<double>(engine.running));
  state_->waiting.Set(static_cast<double>(engine.waiting));
  state_->cache_usage.Set(used);
  state_->gpu_cache_usage.Set(used);
  const auto advance = [](prometheus::Counter& counter, std::int64_t total) {
    counter.Increment(static_cast<double>(total) - counter.Value());
  };
  advance(state_->prompt_tokens, engine.prompt_tokens);
  advance(state_->generation_tokens, engine.generation_tokens);
  advance(state_->image_queries, engine.images);
  advance(state_->image_hits, engine.images_cached);
  std::ostringstream out;
  prometheus::TextSerializer().Serialize(out, state_->registry.Collect());
  return out.str();
}

}  // namespace gem8::app
