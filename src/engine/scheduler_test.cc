#include "engine/scheduler.h"

#include <gtest/gtest.h>

namespace gem8 {
namespace {

constexpr std::int64_t kPage = KvLayer::kPageTokens;

struct Fixture {
  explicit Fixture(const SchedulerLimits& limits) : scheduler(limits) {}

  Sequence* add(std::int64_t n_prompt, CachePages reserved = {1, 1},
                std::vector<UnsplitRange> unsplit = {}) {
    auto sequence = std::make_unique<Sequence>();
    sequence->tokens.assign(static_cast<std::size_t>(n_prompt), TokenId{5});
    sequence->n_prompt = n_prompt;
    sequence->reserved = reserved;
    sequence->unsplit = std::move(unsplit);
    sequence->channel = std::make_shared<TokenChannel>(4, signal, nullptr);
    Sequence* raw = sequence.get();
    scheduler.enqueue(std::move(sequence));
    return raw;
  }

  /// Plans a step, carries it out, and says who had how many tokens.
  std::vector<std::pair<Sequence*, std::int64_t>> step() {
    std::vector<std::pair<Sequence*, std::int64_t>> done;
    for (const PlannedChunk& chunk : scheduler.plan()) {
      done.emplace_back(chunk.sequence, chunk.n_tokens);
      chunk.sequence->n_computed += chunk.n_tokens;
      EXPECT_EQ(chunk.wants_logits, chunk.sequence->n_missing() == 0);
      if (chunk.wants_logits) chunk.sequence->tokens.push_back(TokenId{6});
    }
    return done;
  }

  std::shared_ptr<Signal> signal = std::make_shared<Signal>();
  Scheduler scheduler;
};

using Steps = std::vector<std::pair<Sequence*, std::int64_t>>;

SchedulerLimits roomy(std::int64_t seqs, std::int64_t tokens) {
  return {.max_num_seqs = seqs, .max_num_batched_tokens = tokens, .total_pages = {1000, 1000}};
}

TEST(Scheduler, PromptsComeInChunksAndDecodesComeFirst) {
  Fixture f(roomy(8, 10));
  Sequence* a = f.add(4);
  Sequence* b = f.add(15);
  EXPECT_EQ(f.step(), (Steps{{a, 4}, {b, 6}}));
  Sequence* c = f.add(2);
  EXPECT_EQ(f.step(), (Steps{{a, 1}, {b, 9}}));
  EXPECT_EQ(f.step(), (Steps{{a, 1}, {b, 1}, {c, 2}}));
  EXPECT_EQ(f.step(), (Steps{{a, 1}, {b, 1}, {c, 1}}));
}

TEST(Scheduler, AdmitsNoMoreThanMaxNumSeqsInOrderOfArrival) {
  Fixture f(roomy(2, 100));
  Sequence* a = f.add(3);
  Sequence* b = f.add(3);
  Sequence* c = f.add(3);
  EXPECT_EQ(f.step(), (Steps{{a, 3}, {b, 3}}));
  EXPECT_EQ(f.step(), (Steps{{a, 1}, {b, 1}}));
  f.scheduler.remove(a);
  EXPECT_EQ(f.step(), (Steps{{b, 1}, {c, 3}}));
}

TEST(Scheduler, ARequestWhosePagesDoNotFitHoldsTheLine) {
  Fixture f({.max_num_seqs = 8, .max_num_batched_tokens = 32, .total_pages = {100, 10}});
  Sequence* a = f.add(3, {1, 6});
  Sequence* large = f.add(3, {1, 5});
  Sequence* small = f.add(3, {1, 1});
  EXPECT_EQ(f.step(), (Steps{{a, 3}}));
  f.scheduler.remove(a);
  EXPECT_EQ(f.step(), (Steps{{large, 3}, {small, 3}}));
  f.scheduler.remove(large);
  f.scheduler.remove(small);
  EXPECT_TRUE(f.step().empty());
}

TEST(Scheduler, ChunksAreCutToTheSlidingPagesThatAreNotReserved) {
  // 4 pages, 2 of them reserved: a chunk may hold the 1 token its reservation covers and 2 more
  // pages.
  Fixture f({.max_num_seqs = 8, .max_num_batched_tokens = 1000, .total_pages = {4, 100}});
  Sequence* a = f.add(500, {2, 20});
  EXPECT_EQ(f.step(), (Steps{{a, 1 + 2 * kPage}}));
}

TEST(Scheduler, AWaitingRequestLeavesRoomForAFullChunk) {
  Fixture f({.max_num_seqs = 8, .max_num_batched_tokens = 1 + 4 * kPage, .total_pages = {9, 100}});
  Sequence* a = f.add(3, {3, 1});
  f.add(3, {3, 1});  // 3 + 3 + 4 > 9
  EXPECT_EQ(f.step(), (Steps{{a, 3}}));
}

TEST(Scheduler, ImagesAreNotSplit) {
  Fixture f(roomy(8, 10));
  Sequence* a = f.add(20, {1, 1}, {{6, 14}});
  EXPECT_EQ(f.step(), (Steps{{a, 6}}));   // stops before the image
  EXPECT_EQ(f.step(), (Steps{{a, 10}}));  // the image and two more
  EXPECT_EQ(f.step(), (Steps{{a, 4}}));
}

TEST(Scheduler, AnImageLargerThanWhatIsLeftOfTheStepWaitsForTheNext) {
  Fixture f(roomy(8, 10));
  Sequence* a = f.add(5);
  Sequence* b = f.add(9, {1, 1}, {{0, 8}});
  EXPECT_EQ(f.step(), (Steps{{a, 5}}));
  EXPECT_EQ(f.step(), (Steps{{a, 1}, {b, 9}}));
}

TEST(Scheduler, AFullChannelIsLeftOut) {
  Fixture f(roomy(8, 10));
  Sequence* a = f.add(1);
  f.step();
  while (a->channel->has_room()) a->channel->push({}, SampledToken{}, {}, std::nullopt);
  EXPECT_TRUE(f.step().empty());
  TokenEvent event;
  EXPECT_TRUE(a->channel->receive(event));
  EXPECT_EQ(f.step(), (Steps{{a, 1}}));
}

TEST(Scheduler, RemovedWhileWaiting) {
  Fixture f(roomy(1, 10));
  Sequence* a = f.add(1);
  Sequence* b = f.add(1);
  f.step();
  EXPECT_EQ(f.scheduler.remove(b).get() != nullptr, true);
  EXPECT_TRUE(f.scheduler.waiting().empty());
  EXPECT_EQ(f.step(), (Steps{{a, 1}}));
}

}  // namespace
}  // namespace gem8
