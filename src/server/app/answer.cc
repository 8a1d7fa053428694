#include "server/app/answer.h"

#include "foundation/log.h"

namespace gem8::app {
namespace {

/// Tokens of an answer that are taken before what they say is written. On busy cores the engine is
/// as fast as this reader: without a bound there is always one more, and the client sees nothing
/// until the end.
constexpr int kTokensAtOnce = 64;

/// One answer in the making.
struct Running {
  RequestHandle handle;
  openai::Choice choice;
  std::size_t prompt = 0;
  openai::WholeChoice whole;
  bool begun = false;
  bool ended = false;
  std::string finish_reason;
  RequestTimes times;
};

openai::Usage usage_of(const std::vector<Running>& answers, std::int64_t prompt_tokens,
                       bool reasoning) {
  openai::Usage usage{.prompt_tokens = prompt_tokens};
  if (reasoning) usage.reasoning_tokens = 0;
  for (const Running& answer : answers) {
    usage.completion_tokens += answer.choice.n_tokens();
    if (reasoning) *usage.reasoning_tokens += answer.choice.n_reasoning_tokens();
  }
  return usage;
}

class LoadGuard {
 public:
  explicit LoadGuard(std::atomic<std::int64_t>& load) : load_(load) { ++load_; }
  ~LoadGuard() { --load_; }

 private:
  std::atomic<std::int64_t>& load_;
};

}  // namespace

http::Task<void> Api::answer(Call& call, Answers asked, Writer& writer) {
  const LoadGuard guard(load_);
  const openai::Generation& generation = asked.generation;
  std::int64_t prompt_tokens = 0;
  for (const auto& prompt : asked.prompts) prompt_tokens += std::ssize(prompt);

  std::vector<Running> answers;
  answers.reserve(asked.prompts.size() * static_cast<std::size_t>(generation.n));
  std::optional<Error> failed;
  for (std::size_t prompt = 0; prompt < asked.prompts.size() && !failed; ++prompt) {
    // Drawn for each: prompts of one batch that are alike are sent to see different answers.
    const std::uint64_t seed = generation.has_seed ? generation.sampling.seed : ambient_.random();
    if (!generation.has_seed && !generation.sampling.greedy())
      log_verbose("{}: prompt {}, seed {}", asked.id, prompt, seed);
    for (std::int64_t sample = 0; sample < generation.n && !failed; ++sample) {
      EngineRequest request;
      request.prompt = asked.prompts[prompt];
      request.images = asked.images;
      request.sampling = generation.sampling;
      request.sampling.seed = seed + static_cast<std::uint64_t>(sample);
      request.stop_token_ids = generation.stop_token_ids;
      request.ignore_eos = generation.ignore_eos;
      request.max_tokens = generation.max_tokens;
      request.min_tokens = generation.min_tokens;
      request.on_ready = call.exchange.waker();
      Result<RequestHandle> handle = engine_.submit(std::move(request));
      if (handle) {
        answers.push_back({.handle = *std::move(handle),
                           .choice = openai::Choice(*model_.tokenizer, generation, asked.choice),
                           .prompt = prompt});
      } else {
        failed = std::move(handle).error();
      }
    }
  }
  if (failed) {
    if (failed->context == "max_tokens") failed->context = generation.max_tokens_field;
    co_await fail(call, *failed);
    co_return;
  }

  const auto record = [&](const Running& answer, std::string_view reason) {
    metrics_.observe({.finish_reason = reason,
                      .prompt_tokens = std::ssize(asked.prompts[answer.prompt]),
                      .output_tokens = answer.choice.n_tokens(),
                      .max_tokens = generation.max_tokens.value_or(0),
                      .n = generation.n,
                      .received = call.received,
                      .times = answer.times});
  };

  // All that can be refused has been: the head of a stream may go out.
  Status sent;
  if (generation.stream) {
    http::StreamHead head{.status = 200,
                          .content_type = "text/event-stream; charset=utf-8",
                          .headers = common_headers(call),
                          .idle_text = std::string(openai::kSseComment),
                          .idle_seconds = options_.sse_keep_alive_seconds};
    head.headers.emplace_back("Cache-Control", "no-cache");
    head.headers.emplace_back("X-Accel-Buffering", "no");
    call.status = 200;
    sent = co_await call.exchange.start_stream(std::move(head));
  }

  TokenEvent event;
  std::size_t n_ended = 0;
  while (sent && !failed && n_ended < answers.size()) {
    std::string out;
    bool more = false;  // there may be events that nobody will be woken for
    for (std::size_t i = 0; i < answers.size() && !failed; ++i) {
      Running& answer = answers[i];
      // Clients want the choices to appear in order: a later one waits in its channel until the
      // earlier have begun.
      if (generation.stream && i > 0 && !answers[i - 1].begun) break;
      int n_taken = 0;
      while (!answer.ended && n_taken < kTokensAtOnce && answer.handle.receive(event)) {
        ++n_taken;
        if (event.finish && event.finish->reason == EndReason::kError) {
          failed = event.finish->error;
          break;
        }
        if (event.finish && event.finish->reason == EndReason::kAbort) {
          failed = Error{Code::kUnavailable, "the server is shutting down", {}};
          break;
        }
        if (event.token && answer.times.first_token != Clock::time_point{}) {
          const Clock::duration gap = event.times.last_token - answer.times.last_token;
          metrics_.observe_token_gap(std::chrono::duration<double>(gap).count());
        }
        answer.times = event.times;
        openai::ChoiceDelta delta = answer.choice.feed(event);
        if (delta.end) {
          answer.ended = true;
          answer.finish_reason = delta.end->finish_reason;
          ++n_ended;
          answer.handle = {};  // after a stop string the engine would go on
        }
        if (generation.stream) {
          std::optional<openai::Usage> usage;
          if (generation.continuous_usage) {
            usage = openai::Usage{.prompt_tokens = std::ssize(asked.prompts[answer.prompt]),
                                  .completion_tokens = answer.choice.n_tokens()};
            if (writer.counts_reasoning())
              usage->reasoning_tokens = answer.choice.n_reasoning_tokens();
          }
          if (!answer.begun) out += writer.begin(i, usage);
          out += writer.delta(i, delta, usage);
        } else {
          answer.whole.add(std::move(delta));
        }
        answer.begun = true;
      }
      more |= n_taken == kTokensAtOnce;
    }
    if (failed) break;
    if (!out.empty()) {
      sent = co_await call.exchange.write(out);
    } else if (!more && n_ended < answers.size()) {
      sent = co_await call.exchange.wait();
    }
  }

  const openai::Usage usage = usage_of(answers, prompt_tokens, writer.counts_reasoning());
  const double first_token =
      answers.front().times.first_token == Clock::time_point{}
          ? 0.0
          : std::chrono::duration<double>(answers.front().times.first_token - call.received)
                .count();
  if (!sent) {
    // Dropping the handles frees slots and pages.
    for (const Running& answer : answers)
      record(answer, answer.ended ? std::string_view(answer.finish_reason) : "abort");
    log_info("Aborted request(s) {}: {} after {} tokens", asked.id, sent.error().message,
             usage.completion_tokens);
    co_return;
  }
  for (const Running& answer : answers)
    record(answer, answer.ended ? std::string_view(answer.finish_reason) : "error");
  if (failed) {
    log_info("{}: failed after {} tokens: {}", asked.id, usage.completion_tokens, failed->text());
    if (!generation.stream) {
      co_await fail(call, *failed);
      co_return;
    }
    const std::string end = openai::sse_event(openai::error_body(openai::api_error(*failed))) +
                            std::string(openai::kSseDone);
    sent = co_await call.exchange.write(end);
    if (sent) co_await call.exchange.finish();
    co_return;
  }

  log_info("{}: prompt {}, cached {}, output {} tokens, first after {:.3f} s, {}", asked.id,
           usage.prompt_tokens, usage.cached_tokens, usage.completion_tokens, first_token,
           answers.front().finish_reason);
  if (!generation.stream) {
    std::vector<openai::WholeChoice> choices;
    for (Running& answer : answers) choices.push_back(std::move(answer.whole));
    Json body = writer.whole(std::move(choices), usage);
    co_await send(call, 200, std::move(body));
    co_return;
  }
  std::string end;
  if (generation.include_usage) end += writer.usage(usage);
  end += openai::kSseDone;
  sent = co_await call.exchange.write(end);
  if (sent) co_await call.exchange.finish();
}

}  // namespace gem8::app
