#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <thread>
#include <vector>

#include "engine/channel.h"
#include "engine/engine_options.h"
#include "engine/image_encoder.h"
#include "engine/model_runner.h"
#include "engine/request.h"
#include "engine/scheduler.h"
#include "foundation/guarded.h"
#include "foundation/thread_pool.h"

namespace gem8 {

/// The reader's end of a request. Destroying it cancels: the slot and the pages are free within a
/// step.
class RequestHandle {
 public:
  RequestHandle() = default;
  explicit RequestHandle(std::shared_ptr<TokenChannel> channel) : channel_(std::move(channel)) {}
  RequestHandle(RequestHandle&&) noexcept = default;
  RequestHandle& operator=(RequestHandle&& other) noexcept;
  ~RequestHandle();

  /// The next event, or false: then on_ready will be called when there is one. `event` is reused:
  /// its old content is not freed.
  bool receive(TokenEvent& event) { return channel_->receive(event); }
  bool receive_until(TokenEvent& event, Clock::time_point deadline) {
    return channel_->receive_until(event, deadline);
  }

 private:
  std::shared_ptr<TokenChannel> channel_;
};

/// A look at the engine from any thread; the numbers belong to one step each.
struct EngineStats {
  std::int64_t running = 0;
  std::int64_t waiting = 0;
  CachePages used_pages;
  CachePages total_pages;
  std::int64_t steps = 0;
  std::int64_t prompt_tokens = 0;      ///< computed
  std::int64_t generation_tokens = 0;  ///< sampled
  std::int64_t cancelled = 0;
  std::int64_t images = 0;         ///< asked for
  std::int64_t images_cached = 0;  ///< of these, whose soft tokens were there already
  bool dead = false;               ///< a step failed for a reason that the next one shares
};

/// Runs requests: one thread owns the scheduler and the model's cache. Everyone else talks to it
/// through submit() and handles.
class Engine {
 public:
  /// Starts the thread. `runner` and `pool` must outlive the engine and are used by nobody else
  /// meanwhile. Error: kInvalidArgument (limits that contradict each other).
  static Result<std::unique_ptr<Engine>> start(ModelRunner& runner, ThreadPool& pool,
                                               const EngineOptions& options);
  /// Ends every request with kAbort and joins the thread.
  ~Engine();

  /// Queues a request; from any thread. Errors: kInvalidArgument (empty prompt, prompt longer than
  /// the context, an id outside the vocabulary, sampling parameters out of range, more pages than
  /// there are; the context names the field), kUnavailable (queue full, shutting down), kInternal
  /// (the engine is dead).
  Result<RequestHandle> submit(EngineRequest request);

  /// kUnavailable when submit() would refuse for want of room: to ask before work that only an
  /// admitted request is worth.
  Status has_room() const;

  EngineStats stats() const;
  const EngineOptions& options() const { return options_; }

 private:
  Engine(ModelRunner& runner, ThreadPool& pool, const EngineOptions& options);

  void run();
  void take_inbox();
  void drop_cancelled();
  bool step();
  void begin(Sequence& sequence);
  Status forward(std::span<const PlannedChunk> plan);
  void forward_one_by_one(std::span<const PlannedChunk> plan);
  void sample(std::span<const PlannedChunk> plan);
  std::optional<Finish> finish_of(const Sequence& sequence, TokenId token) const;
  void finish(Sequence* sequence, std::optional<Finish> finish);
  void finish_all(EndReason reason, const Error& error);
  void publish_stats();

  ModelRunner& runner_;
  ThreadPool& pool_;
  EngineOptions options_;
  CachePages total_pages_;
  std::shared_ptr<Signal> signal_ = std::make_shared<Signal>();
  Guarded<std::vector<std::unique_ptr<Sequence>>> inbox_;
  std::atomic<std::int64_t> in_flight_{0};
  std::atomic<bool> stop_{false};
  std::atomic<bool> dead_{false};

  // Of the engine thread.
  Scheduler scheduler_;
  std::vector<std::unique_ptr<Sequence>> arrivals_;
  std::vector<Sequence*> gone_;
  ImageEncoder images_;
  std::vector<SequenceChunk> chunks_;
  std::vector<SoftTokens> soft_;
  struct Sampled {
    Sequence* sequence = nullptr;
    std::int64_t row = 0;
    std::optional<SampledToken> token;
  };
  std::vector<Sampled> sampled_;
  std::vector<Sampler> samplers_;                      // one a thread of the pool
  std::vector<std::vector<std::uint32_t>> mask_bits_;  // one a thread of the pool

  struct Counters {
    std::atomic<std::int64_t> running{0}, waiting{0}, used_sliding{0}, used_full{0}, steps{0},
        prompt_tokens{0}, generation_tokens{0}, cancelled{0};
  } counters_;

  std::thread thread_;  // last: it uses everything above
};

}  // namespace gem8
