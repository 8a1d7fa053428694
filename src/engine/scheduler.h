#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <span>
#include <vector>

#include "engine/channel.h"
#include "engine/model_runner.h"
#include "engine/request.h"

namespace gem8 {

/// Prompt positions [begin, end) that one step must take whole: the soft tokens of an image see
/// each other in both directions.
struct UnsplitRange {
  std::int64_t begin = 0;
  std::int64_t end = 0;
};

/// A request inside the engine.
struct Sequence {
  EngineRequest request;  ///< its prompt has moved into `tokens`
  std::shared_ptr<TokenChannel> channel;
  std::vector<TokenId> tokens;  ///< prompt and output; capacity for all of it once admitted
  std::vector<UnsplitRange> unsplit;
  std::vector<TokenId> stop_ids;  ///< everything that min_tokens forbids
  TokenHistory history;
  std::vector<TokenLogprob> top;  ///< scratch
  /// Of request.images, on the device: from the step that needs them until it is done.
  std::vector<std::shared_ptr<const SoftTokenMatrix>> soft_tokens;
  RequestTimes times;
  CachePages reserved;  ///< what it holds at most between steps
  std::int64_t n_prompt = 0;
  std::int64_t n_computed = 0;  ///< positions whose keys and values are in the cache
  std::int64_t max_tokens = 0;  ///< of output
  CacheSeq seq{};
  bool admitted = false;

  std::int64_t n_tokens() const { return static_cast<std::int64_t>(tokens.size()); }
  std::int64_t n_output() const { return n_tokens() - n_prompt; }
  std::int64_t n_missing() const { return n_tokens() - n_computed; }
};

struct SchedulerLimits {
  std::int64_t max_num_seqs = 256;             ///< admitted at a time
  std::int64_t max_num_batched_tokens = 2048;  ///< of one step
  CachePages total_pages;
};

struct PlannedChunk {
  Sequence* sequence = nullptr;
  std::int64_t n_tokens = 0;
  bool wants_logits = false;  ///< it ends at the last token
};

/// Who is in the next step, with how many tokens. First come, first served; decoding sequences
/// before prompts; a prompt is taken in chunks of what the step has room for.
///
/// A sequence is admitted when the pages it can ever need between steps (prompt and max_tokens) fit
/// beside those of all admitted ones, so a running sequence never runs out. The pages a prompt
/// chunk needs above that for the length of a step come out of what is not reserved; a chunk is cut
/// to what is there. Knows no model and no thread.
class Scheduler {
 public:
  explicit Scheduler(const SchedulerLimits& limits);

  void enqueue(std::unique_ptr<Sequence> sequence);

  /// Plans a step; admits what fits. Newly admitted ones are in the plan with n_computed == 0.
  /// Empty: nothing can run now.
  std::span<const PlannedChunk> plan();

  /// Takes a sequence out, waiting or admitted, and gives its reservation back.
  std::unique_ptr<Sequence> remove(Sequence* sequence);

  std::span<const std::unique_ptr<Sequence>> running() const { return running_; }
  const std::deque<std::unique_ptr<Sequence>>& waiting() const { return waiting_; }

 private:
  std::int64_t chunk_of(const Sequence& sequence, std::int64_t budget,
                        std::int64_t spare_pages) const;
  bool fits(const Sequence& sequence) const;

  SchedulerLimits limits_;
  CachePages reserved_;
  std::deque<std::unique_ptr<Sequence>> waiting_;
  std::vector<std::unique_ptr<Sequence>> running_;  // in order of admission
  std::vector<PlannedChunk> plan_;
};

}  // namespace gem8
