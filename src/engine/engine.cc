#include "engine/engine.h"

#include <algorithm>
#include <utility>

#include "engine/request_check.h"
#include "foundation/check.h"
#include "foundation/log.h"

namespace gem8 {
namespace {

std::unexpected<Error> busy() {
  return fail(Code::kUnavailable,
              "The engine is currently busy and cannot accept new requests. Please try again later "
              "or on a different instance.");
}

bool contains(std::span<const TokenId> ids, TokenId id) {
  return std::find(ids.begin(), ids.end(), id) != ids.end();
}

}  // namespace

RequestHandle& RequestHandle::operator=(RequestHandle&& other) noexcept {
  if (this != &other) {
    if (channel_) channel_->cancel();
    channel_ = std::move(other.channel_);
  }
  return *this;
}

RequestHandle::~RequestHandle() {
  if (channel_) channel_->cancel();
}

Result<std::unique_ptr<Engine>> Engine::start(ModelRunner& runner, ThreadPool& pool,
                                              const EngineOptions& options) {
  if (options.max_model_len < 2)
    return fail(Code::kInvalidArgument, "max_model_len {}: must be at least 2",
                options.max_model_len);
  if (options.max_num_seqs < 1)
    return fail(Code::kInvalidArgument, "max_num_seqs {}: must be at least 1",
                options.max_num_seqs);
  if (options.max_num_batched_tokens < options.max_num_seqs) {
    return fail(Code::kInvalidArgument,
                "max_num_batched_tokens ({}) must be greater than or equal to max_num_seqs ({})",
                options.max_num_batched_tokens, options.max_num_seqs);
  }
  if (options.max_num_batched_tokens > runner.max_batch_tokens()) {
    return fail(Code::kInvalidArgument,
                "max_num_batched_tokens {}: the model was planned for steps of {}",
                options.max_num_batched_tokens, runner.max_batch_tokens());
  }
  return std::unique_ptr<Engine>(new Engine(runner, pool, options));
}

Engine::Engine(ModelRunner& runner, ThreadPool& pool, const EngineOptions& options)
    : runner_(runner),
      pool_(pool),
      options_(options),
      total_pages_(runner.total_pages()),
      scheduler_({.max_num_seqs = options.max_num_seqs,
                  .max_num_batched_tokens = options.max_num_batched_tokens,
                  .total_pages = total_pages_}),
      images_(runner, options.image_cache_bytes, options.max_pass_patches) {
  const auto n_seqs = static_cast<std::size_t>(options.max_num_seqs);
  chunks_.reserve(n_seqs);
  sampled_.reserve(n_seqs);
  gone_.reserve(n_seqs);
  for (std::size_t thread = 0; thread < pool.size(); ++thread) {
    samplers_.emplace_back(runner.vocab());
    mask_bits_.emplace_back(static_cast<std::size_t>((runner.vocab() + 31) / 32));
  }
  thread_ = std::thread([this] { run(); });
}

Engine::~Engine() {
  stop_ = true;
  signal_->set();
  thread_.join();
}

EngineStats Engine::stats() const {
  return {.running = counters_.running,
          .waiting = counters_.waiting,
          .used_pages = {counters_.used_sliding, counters_.used_full},
          .total_pages = total_pages_,
          .steps = counters_.steps,
          .prompt_tokens = counters_.prompt_tokens,
          .generation_tokens = counters_.generation_tokens,
          .cancelled = counters_.cancelled,
          .images = images_.asked(),
          .images_cached = images_.cached(),
          .dead = dead_};
}

Status Engine::has_room() const {
  if (options_.max_queued > 0 && in_flight_ >= options_.max_queued) return busy();
  return {};
}

Result<RequestHandle> Engine::submit(EngineRequest request) {
  if (dead_) return fail(Code::kInternal, "the engine has stopped after a failed step");
  if (stop_) return fail(Code::kUnavailable, "the server is shutting down");
  const std::int64_t before = in_flight_.fetch_add(1);
  const auto leave = [this] { in_flight_.fetch_sub(1); };
  if (options_.max_queued > 0 && before >= options_.max_queued) {
    leave();
    return busy();
  }
  Result<std::unique_ptr<Sequence>> sequence =
      make_sequence(std::move(request), options_, runner_, signal_);
  if (!sequence) {
    leave();
    return std::unexpected(std::move(sequence).error());
  }
  (*sequence)->times.queued = Clock::now();
  RequestHandle handle((*sequence)->channel);
  counters_.waiting.fetch_add(1);
  inbox_.with([&](auto& inbox) { inbox.push_back(*std::move(sequence)); });
  signal_->set();
  return handle;
}

void Engine::run() {
  while (!stop_) {
    take_inbox();
    drop_cancelled();
    const bool stepped = !dead_ && step();
    publish_stats();
    if (!stepped) signal_->wait();
  }
  take_inbox();
  finish_all(EndReason::kAbort, {});
  publish_stats();
}

void Engine::take_inbox() {
  inbox_.with([this](auto& inbox) { std::swap(inbox, arrivals_); });
  for (auto& sequence : arrivals_) {
    if (dead_) {
      sequence->channel->push(sequence->times, {}, {},
                              Finish{.reason = EndReason::kError,
                                     .error = {Code::kInternal, "the engine has stopped", {}}});
      in_flight_.fetch_sub(1);
    } else {
      scheduler_.enqueue(std::move(sequence));
    }
  }
  arrivals_.clear();
}

void Engine::drop_cancelled() {
  gone_.clear();
  for (const auto& sequence : scheduler_.running()) {
    if (sequence->channel->cancelled()) gone_.push_back(sequence.get());
  }
  for (const auto& sequence : scheduler_.waiting()) {
    if (sequence->channel->cancelled()) gone_.push_back(sequence.get());
  }
  for (Sequence* sequence : gone_) {
    finish(sequence, std::nullopt);
    counters_.cancelled.fetch_add(1);
  }
}

/// What a request needs while it runs is allocated now: many may be waiting.
void Engine::begin(Sequence& sequence) {
  sequence.seq = runner_.open();
  sequence.times.scheduled = Clock::now();
  sequence.tokens.reserve(static_cast<std::size_t>(sequence.n_prompt + sequence.max_tokens));
  sequence.history = TokenHistory(sequence.request.sampling, sequence.tokens, runner_.vocab(),
                                  sequence.max_tokens);
}

bool Engine::step() {
  std::span<const PlannedChunk> plan = scheduler_.plan();
  if (plan.empty()) return false;
  for (const PlannedChunk& chunk : plan) {
    if (chunk.sequence->times.scheduled == Clock::time_point{}) {
      begin(*chunk.sequence);
    }
    if (Status status = images_.encode(chunk); !status) {
      finish(chunk.sequence, Finish{.reason = EndReason::kError, .error = status.error()});
      return true;  // plan again without it
    }
  }

  if (Status status = forward(plan); !status) {
    // A batch that cannot be planned has changed nothing: find whose fault it is. Anything else is
    // the device's, and final.
    const Code code = status.error().code;
    if (code == Code::kInvalidArgument || code == Code::kExhausted || code == Code::kNotFound) {
      forward_one_by_one(plan);
    } else {
      log_warning("engine: step failed: {}", status.error().text());
      dead_ = true;
      finish_all(EndReason::kError, status.error());
    }
    return true;
  }
  sample(plan);
  return true;
}

Status Engine::forward(std::span<const PlannedChunk> plan) {
  chunks_.clear();
  soft_.clear();
  std::size_t n_soft = 0;
  for (const PlannedChunk& chunk : plan) n_soft += chunk.sequence->soft_tokens.size();
  soft_.reserve(n_soft);  // so that the spans below stay valid
  for (const PlannedChunk& chunk : plan) {
    const Sequence& sequence = *chunk.sequence;
    const std::size_t first_soft = soft_.size();
    for (std::size_t i = 0; i < sequence.soft_tokens.size(); ++i) {
      const PromptImage& image = sequence.request.images[i];
      if (!begins_in(image, chunk)) continue;
      soft_.push_back(
          {.offset = image.position - sequence.n_computed, .rows = sequence.soft_tokens[i]->rows});
    }
    chunks_.push_back({.seq = sequence.seq,
                       .tokens = std::span(sequence.tokens)
                                     .subspan(static_cast<std::size_t>(sequence.n_computed),
                                              static_cast<std::size_t>(chunk.n_tokens)),
                       .first_position = sequence.n_computed,
                       .soft = std::span(soft_).subspan(first_soft),
                       .logits = chunk.wants_logits ? Logits::kLast : Logits::kNone});
  }
  GEM8_RETURN_IF_ERROR(runner_.forward({chunks_}));
  counters_.steps.fetch_add(1, std::memory_order_relaxed);
  for (const PlannedChunk& chunk : plan) {
    const std::int64_t prompt_left = chunk.sequence->n_prompt - chunk.sequence->n_computed;
    counters_.prompt_tokens.fetch_add(std::clamp<std::int64_t>(prompt_left, 0, chunk.n_tokens),
                                      std::memory_order_relaxed);
    for (std::size_t i = 0; i < chunk.sequence->soft_tokens.size(); ++i) {
      if (begins_in(chunk.sequence->request.images[i], chunk))
        chunk.sequence->soft_tokens[i].reset();
    }
    chunk.sequence->n_computed += chunk.n_tokens;
  }
  return {};
}

void Engine::forward_one_by_one(std::span<const PlannedChunk> plan) {
  const std::vector<PlannedChunk> chunks(plan.begin(), plan.end());
  for (const PlannedChunk& chunk : chunks) {
    if (Status status = forward({&chunk, 1}); status) {
      sample({&chunk, 1});
    } else {
      log_warning("engine: request failed: {}", status.error().text());
      finish(chunk.sequence, Finish{.reason = EndReason::kError, .error = status.error()});
    }
  }
}

void Engine::sample(std::span<const PlannedChunk> plan) {
  sampled_.clear();
  std::int64_t row = 0;
  for (const PlannedChunk& chunk : plan) {
    if (chunk.wants_logits) sampled_.push_back({chunk.sequence, row++, {}});
  }
  pool_.parallel_for(sampled_.size(), [this](std::size_t item, std::size_t thread) {
    Sampled& sampled = sampled_[item];
    Sequence& sequence = *sampled.sequence;
    Sampler& sampler = samplers_[thread];
    runner_.copy_logits(sampled.row, sampler.logits());
    std::span<const std::uint32_t> mask;
    if (sequence.request.mask) {
      auto& bits = mask_bits_[thread];
      std::fill(bits.begin(), bits.end(), ~std::uint32_t{0});
      sequence.request.mask->restrict(bits);
      mask = bits;
    }
    const bool too_early = sequence.n_output() < sequence.request.min_tokens;
    sampled.token =
        sampler.sample({.params = sequence.request.sampling,
                        .history = sequence.history,
                        .position = static_cast<std::uint64_t>(sequence.n_output()),
                        .suppressed = options_.end_tokens.suppress,
                        .banned = too_early ? std::span<const TokenId>(sequence.stop_ids)
                                            : std::span<const TokenId>{},
                        .mask = mask},
                       sequence.top);
  });

  const Clock::time_point now = Clock::now();
  for (const Sampled& sampled : sampled_) {
    Sequence& sequence = *sampled.sequence;
    if (!sampled.token) {
      finish(&sequence,
             Finish{.reason = EndReason::kError,
                    .error = {Code::kInternal,
                              "no token is left to choose: every logit is minus infinity or NaN",
                              {}}});
      continue;
    }
    const TokenId token = sampled.token->id;
    sequence.tokens.push_back(token);
    sequence.history.add_output(token);
    if (sequence.request.mask) sequence.request.mask->accept(token);
    counters_.generation_tokens.fetch_add(1, std::memory_order_relaxed);
    if (sequence.times.first_token == Clock::time_point{}) sequence.times.first_token = now;
    sequence.times.last_token = now;
    std::optional<Finish> end = finish_of(sequence, token);
    if (!end) {
      sequence.channel->push(sequence.times, sampled.token, sequence.top, std::nullopt);
      continue;
    }
    sequence.channel->push(sequence.times, sampled.token, sequence.top, std::move(end));
    finish(&sequence, std::nullopt);
  }
}

std::optional<Finish> Engine::finish_of(const Sequence& sequence, TokenId token) const {
  const EndTokens& ends = options_.end_tokens;
  const EngineRequest& request = sequence.request;
  // min_tokens needs no look here: the sampler was not allowed to choose these before.
  if (token == ends.primary && !request.ignore_eos) return Finish{.reason = EndReason::kStop};
  if (contains(sequence.stop_ids, token))
    return Finish{.reason = EndReason::kStop, .stop_token = token};
  if (sequence.n_output() >= sequence.max_tokens) return Finish{.reason = EndReason::kLength};
  return std::nullopt;
}

/// Takes the sequence out of scheduler and cache; with `end`, tells the reader.
void Engine::finish(Sequence* sequence, std::optional<Finish> end) {
  const std::unique_ptr<Sequence> removed = scheduler_.remove(sequence);
  if (removed->times.scheduled != Clock::time_point{}) runner_.close(removed->seq);
  if (end) removed->channel->push(removed->times, std::nullopt, {}, std::move(end));
  in_flight_.fetch_sub(1);
}

void Engine::finish_all(EndReason reason, const Error& error) {
  while (!scheduler_.running().empty())
    finish(scheduler_.running().back().get(), Finish{.reason = reason, .error = error});
  while (!scheduler_.waiting().empty())
    finish(scheduler_.waiting().back().get(), Finish{.reason = reason, .error = error});
}

void Engine::publish_stats() {
  const CachePages used = runner_.used_pages();
  counters_.used_sliding = used.sliding;
  counters_.used_full = used.full;
  counters_.running = std::ssize(scheduler_.running());
  counters_.waiting = std::ssize(scheduler_.waiting()) +
                      inbox_.with([](const auto& inbox) { return std::ssize(inbox); });
}

}  // namespace gem8
