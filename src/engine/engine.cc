#include "engine/engine.h"

#include <algorithm>
#include <utility>

#include "foundation/check.h"
#include "foundation/log.h"

namespace gem8 {
namespace {

std::unexpected<Error> refuse(const char* field, std::string message) {
  return std::unexpected(Error{Code::kInvalidArgument, std::move(message), field});
}

std::unexpected<Error> busy() {
  return fail(Code::kUnavailable,
              "The engine is currently busy and cannot accept new requests. Please try again later "
              "or on a different instance.");
}

bool contains(std::span<const TokenId> ids, TokenId id) {
  return std::find(ids.begin(), ids.end(), id) != ids.end();
}

std::vector<UnsplitRange> unsplit_ranges(const EngineRequest& request,
                                         std::span<const TokenId> placeholders) {
  std::vector<UnsplitRange> ranges;
  const auto n = static_cast<std::int64_t>(request.prompt.size());
  for (std::int64_t i = 0; i < n; ++i) {
    if (!contains(placeholders, request.prompt[static_cast<std::size_t>(i)])) continue;
    if (!ranges.empty() && ranges.back().end == i) {
      ++ranges.back().end;
    } else {
      ranges.push_back({i, i + 1});
    }
  }
  return ranges;
}

/// Blocks are never split: an image that begins in a chunk ends in it.
bool is_inside(const PromptImage& image, const PlannedChunk& chunk) {
  const std::int64_t begin = chunk.sequence->n_computed;
  return begin <= image.position && image.position < begin + chunk.n_tokens;
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
      images_(options.image_cache_bytes) {
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
          .images = counters_.images,
          .images_cached = counters_.images_cached,
          .dead = dead_};
}

Result<std::unique_ptr<Sequence>> Engine::check(EngineRequest request) const {
  const std::int64_t vocab = runner_.vocab();
  const std::int64_t limit = options_.max_model_len;
  const auto n_prompt = static_cast<std::int64_t>(request.prompt.size());
  if (n_prompt == 0) return refuse("prompt", "the prompt is empty");
  if (n_prompt >= limit) {
    return refuse(
        "input_tokens",
        fmt::format("This model's maximum context length is {} tokens. However, your prompt "
                    "contains {} input tokens, which "
                    "leaves no room for an answer. Please reduce the length of the input prompt.",
                    limit, n_prompt));
  }
  if (request.max_tokens && *request.max_tokens < 1) {
    return refuse("max_tokens",
                  fmt::format("max_tokens must be at least 1, got {}.", *request.max_tokens));
  }
  if (request.max_tokens && *request.max_tokens > limit) {
    return refuse("max_tokens", fmt::format("max_tokens={} cannot be greater than "
                                            "max_model_len={}. Please request fewer output tokens.",
                                            *request.max_tokens, limit));
  }
  const auto outside = [vocab](TokenId id) { return value_of(id) < 0 || value_of(id) >= vocab; };
  for (const TokenId id : request.prompt) {
    if (outside(id))
      return refuse("prompt", fmt::format("Token id {} is out of vocabulary: ids are 0 to {}",
                                          value_of(id), vocab - 1));
  }
  for (const TokenId id : request.stop_token_ids) {
    if (outside(id))
      return refuse("stop_token_ids",
                    fmt::format("Token id {} is out of vocabulary: ids are 0 to {}", value_of(id),
                                vocab - 1));
  }
  GEM8_RETURN_IF_ERROR(check_sampling_params(request.sampling, vocab));

  auto sequence = std::make_unique<Sequence>();
  sequence->n_prompt = n_prompt;
  sequence->max_tokens = std::min(request.max_tokens.value_or(limit), limit - n_prompt);
  if (request.min_tokens < 0 || request.min_tokens > request.max_tokens.value_or(limit)) {
    return refuse("min_tokens",
                  fmt::format("min_tokens must be from 0 to max_tokens={}, got {}.",
                              request.max_tokens.value_or(limit), request.min_tokens));
  }

  sequence->unsplit = unsplit_ranges(request, options_.end_tokens.placeholders);
  std::int64_t largest = 1;
  for (const UnsplitRange& range : sequence->unsplit)
    largest = std::max(largest, range.end - range.begin);
  if (largest > 1 && largest + options_.max_num_seqs > options_.max_num_batched_tokens) {
    return refuse("messages",
                  fmt::format("an image of {} tokens does not fit in a step: "
                              "max_num_batched_tokens ({}) less max_num_seqs ({})",
                              largest, options_.max_num_batched_tokens, options_.max_num_seqs));
  }
  for (const PromptImage& image : request.images) {
    const bool has_place =
        image.patches && image.n_tokens() > 0 &&
        std::ranges::any_of(sequence->unsplit, [&](const UnsplitRange& range) {
          return range.begin == image.position && range.end == image.position + image.n_tokens();
        });
    if (!has_place || image.content_hash.empty()) {
      return refuse("messages",
                    fmt::format("an image of {} soft tokens at {}: no such run of placeholders",
                                image.patches ? image.n_tokens() : 0, image.position));
    }
  }
  sequence->soft_tokens.resize(request.images.size());

  sequence->reserved = runner_.pages_for(n_prompt + sequence->max_tokens, largest);
  if (sequence->reserved.sliding > total_pages_.sliding ||
      sequence->reserved.full > total_pages_.full) {
    return refuse("max_tokens",
                  fmt::format("prompt of {} and max_tokens of {} need {} + {} cache pages, the "
                              "cache has {} + {}: ask for fewer tokens",
                              n_prompt, sequence->max_tokens, sequence->reserved.full,
                              sequence->reserved.sliding, total_pages_.full, total_pages_.sliding));
  }

  sequence->stop_ids = request.stop_token_ids;
  if (!request.ignore_eos) {
    sequence->stop_ids.insert(sequence->stop_ids.end(), options_.end_tokens.eos.begin(),
                              options_.end_tokens.eos.end());
    sequence->stop_ids.push_back(options_.end_tokens.primary);
  }
  sequence->tokens = std::move(request.prompt);
  if (request.sampling.n_logprobs)
    sequence->top.reserve(static_cast<std::size_t>(*request.sampling.n_logprobs));
  sequence->channel = std::make_shared<TokenChannel>(options_.channel_capacity, signal_,
                                                     std::move(request.on_ready));
  sequence->request = std::move(request);
  return sequence;
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
  Result<std::unique_ptr<Sequence>> sequence = check(std::move(request));
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
      sequence->channel->push({}, {},
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

/// Makes the soft tokens that the chunk needs: an image costs time when its turn comes, not all of
/// a request's images before its first step. Those of one chunk share passes of the tower.
Status Engine::encode_images(const PlannedChunk& chunk) {
  Sequence& sequence = *chunk.sequence;
  const std::vector<PromptImage>& images = sequence.request.images;
  std::vector<std::size_t> missing;  // one for each content
  const auto missing_like = [&](std::size_t i) {
    return std::ranges::find(
        missing, images[i].content_hash, [&](std::size_t j) -> const auto& {
          return images[j].content_hash;
        });
  };
  for (std::size_t i = 0; i < sequence.soft_tokens.size(); ++i) {
    auto& soft_tokens = sequence.soft_tokens[i];
    if (soft_tokens || !is_inside(images[i], chunk)) continue;
    counters_.images.fetch_add(1, std::memory_order_relaxed);
    soft_tokens = images_.find(images[i].content_hash);
    if (soft_tokens || missing_like(i) != missing.end()) {
      counters_.images_cached.fetch_add(1, std::memory_order_relaxed);
    } else {
      missing.push_back(i);
    }
  }
  for (std::size_t first = 0; first < missing.size();) {
    std::vector<const Patches*> pass;
    for (std::int64_t n_patches = 0; first + pass.size() < missing.size();) {
      const Patches& next = *images[missing[first + pass.size()]].patches;
      n_patches += next.count();
      if (!pass.empty() && n_patches > options_.max_pass_patches) break;
      pass.push_back(&next);
    }
    GEM8_TRY(std::vector<SoftTokenMatrix> encoded, runner_.encode(pass));
    for (std::size_t k = 0; k < pass.size(); ++k) {
      const std::size_t i = missing[first + k];
      const auto bytes = static_cast<std::size_t>(encoded[k].rows.rows * encoded[k].rows.stride) *
                         dtype_bytes(encoded[k].rows.dtype);
      sequence.soft_tokens[i] = std::make_shared<const SoftTokenMatrix>(std::move(encoded[k]));
      images_.insert(images[i].content_hash, sequence.soft_tokens[i], bytes);
    }
    first += pass.size();
  }
  for (std::size_t i = 0; !missing.empty() && i < sequence.soft_tokens.size(); ++i) {
    auto& soft_tokens = sequence.soft_tokens[i];  // of a picture that is shown again
    if (!soft_tokens && is_inside(images[i], chunk))
      soft_tokens = sequence.soft_tokens[*missing_like(i)];
  }
  return {};
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
    if (Status status = encode_images(chunk); !status) {
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
      if (!is_inside(image, chunk)) continue;
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
      if (is_inside(chunk.sequence->request.images[i], chunk))
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
      sequence.channel->push(sampled.token, sequence.top, std::nullopt);
      continue;
    }
    end->times = sequence.times;
    sequence.channel->push(sampled.token, sequence.top, std::move(end));
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
  if (end) {
    end->times = removed->times;
    removed->channel->push(std::nullopt, {}, std::move(end));
  }
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
