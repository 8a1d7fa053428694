#include "engine/scheduler.h"

#include <algorithm>

#include "foundation/check.h"

namespace gem8 {
namespace {

/// Pages that n more tokens in a step can take beyond those of one token, whatever the alignment.
std::int64_t extra_pages(std::int64_t n_tokens) {
  return (n_tokens - 1 + KvLayer::kPageTokens - 1) / KvLayer::kPageTokens;
}

std::int64_t largest_unsplit(const Sequence& sequence) {
  std::int64_t largest = 1;
  for (const UnsplitRange& range : sequence.unsplit)
    largest = std::max(largest, range.end - range.begin);
  return largest;
}

}  // namespace

Scheduler::Scheduler(const SchedulerLimits& limits) : limits_(limits) {
  running_.reserve(static_cast<std::size_t>(limits.max_num_seqs));
  plan_.reserve(static_cast<std::size_t>(limits.max_num_seqs));
}

void Scheduler::enqueue(std::unique_ptr<Sequence> sequence) {
  waiting_.push_back(std::move(sequence));
}

/// The reservation must fit, and with company also a full chunk on top, so that prompts do not
/// crawl.
bool Scheduler::fits(const Sequence& sequence) const {
  const std::int64_t chunk = running_.empty() ? 0 : extra_pages(limits_.max_num_batched_tokens);
  return reserved_.full + sequence.reserved.full <= limits_.total_pages.full &&
         reserved_.sliding + sequence.reserved.sliding + chunk <= limits_.total_pages.sliding;
}

/// How many of the missing tokens go into a step with this much room; 0: none this time.
std::int64_t Scheduler::chunk_of(const Sequence& sequence, std::int64_t budget,
                                 std::int64_t spare_pages) const {
  // The reservation covers one image (or one token) in flight; spare pages cover the rest.
  const std::int64_t covered = largest_unsplit(sequence) + spare_pages * KvLayer::kPageTokens;
  const std::int64_t room = std::min({sequence.n_missing(), budget, covered});
  std::int64_t end = sequence.n_computed + room;
  for (const UnsplitRange& range : sequence.unsplit) {
    if (end > range.begin && end < range.end) end = range.begin;
  }
  return std::max<std::int64_t>(0, end - sequence.n_computed);
}

std::span<const PlannedChunk> Scheduler::plan() {
  plan_.clear();
  std::int64_t budget = limits_.max_num_batched_tokens;
  std::int64_t spare = limits_.total_pages.sliding - reserved_.sliding;
  const auto add = [&](Sequence& sequence, std::int64_t n_tokens) {
    plan_.push_back({&sequence, n_tokens, n_tokens == sequence.n_missing()});
    budget -= n_tokens;
    spare -= n_tokens > largest_unsplit(sequence) ? extra_pages(n_tokens) : 0;
    spare = std::max<std::int64_t>(0, spare);
  };

  for (const auto& sequence : running_) {
    if (budget > 0 && sequence->n_missing() == 1 && sequence->channel->has_room())
      add(*sequence, 1);
  }
  for (const auto& sequence : running_) {
    if (budget <= 0) break;
    if (sequence->n_missing() == 1) continue;
    const std::int64_t n_tokens = chunk_of(*sequence, budget, spare);
    if (n_tokens > 0) add(*sequence, n_tokens);
  }
  while (budget > 0 && !waiting_.empty() &&
         running_.size() < static_cast<std::size_t>(limits_.max_num_seqs)) {
    Sequence& next = *waiting_.front();
    if (!fits(next)) break;
    const std::int64_t left = spare - next.reserved.sliding;
    const std::int64_t n_tokens = chunk_of(next, budget, std::max<std::int64_t>(0, left));
    if (n_tokens == 0)
      break;  // an image larger than what this step has left: first in the next one
    reserved_.sliding += next.reserved.sliding;
    reserved_.full += next.reserved.full;
    spare = std::max<std::int64_t>(0, left);
    next.admitted = true;
    running_.push_back(std::move(waiting_.front()));
    waiting_.pop_front();
    add(next, n_tokens);
  }
  return plan_;
}

std::unique_ptr<Sequence> Scheduler::remove(Sequence* sequence) {
  const auto is_it = [sequence](const std::unique_ptr<Sequence>& other) {
    return other.get() == sequence;
  };
  std::unique_ptr<Sequence> removed;
  if (sequence->admitted) {
    const auto found = std::find_if(running_.begin(), running_.end(), is_it);
    GEM8_CHECK(found != running_.end());
    removed = std::move(*found);
    running_.erase(found);
    reserved_.sliding -= removed->reserved.sliding;
    reserved_.full -= removed->reserved.full;
    removed->admitted = false;
  } else {
    const auto found = std::find_if(waiting_.begin(), waiting_.end(), is_it);
    GEM8_CHECK(found != waiting_.end());
    removed = std::move(*found);
    waiting_.erase(found);
  }
  return removed;
}

}  // namespace gem8
