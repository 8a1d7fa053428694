#include <gtest/gtest.h>

#include "engine/engine_fixture.h"

namespace gem8 {
namespace {

using namespace testing;
using namespace std::chrono_literals;

TEST_F(EngineTest, AnswersWithMaxTokensTokens) {
  start();
  const Answer answer = ask(greedy(prompt_of(5), 7));
  EXPECT_EQ(answer.tokens.size(), 7u);
  EXPECT_EQ(answer.finish.reason, EndReason::kLength);
  EXPECT_LE(answer.times.queued, answer.times.scheduled);
  EXPECT_LE(answer.times.first_token, answer.times.last_token);
  EXPECT_TRUE(eventually([&] { return runner.n_open() == 0; }));
}

TEST_F(EngineTest, EveryTokenCarriesTheTimesOfItsRequest) {
  start();
  RequestHandle handle = *engine->submit(greedy(prompt_of(5), 3));
  TokenEvent event;
  for (int i = 0; i < 3; ++i) {  // a reader may leave after any of them
    ASSERT_TRUE(handle.receive_until(event, Clock::now() + 60s));
    EXPECT_LT(Clock::time_point{}, event.times.queued);
    EXPECT_LE(event.times.queued, event.times.scheduled);
    EXPECT_LE(event.times.scheduled, event.times.first_token);
    EXPECT_LE(event.times.first_token, event.times.last_token);
  }
  EXPECT_TRUE(event.finish);
}

TEST_F(EngineTest, TheContextEndsAnAnswerToo) {
  start();
  EXPECT_EQ(ask(greedy(prompt_of(120), 100)).tokens.size(), 8u);
  EngineRequest open_ended{.prompt = prompt_of(100), .sampling = {.temperature = 0.0f}};
  const Answer answer = ask(std::move(open_ended));
  EXPECT_EQ(answer.tokens.size(), 28u);
  EXPECT_EQ(answer.finish.reason, EndReason::kLength);
}

TEST_F(EngineTest, CompanyAndChunksChangeNothing) {
  std::vector<Answer> alone;
  start();
  for (int i = 0; i < 6; ++i)
    alone.push_back(ask(seeded(prompt_of(10 + 17 * i, i), 20, 5 + static_cast<std::uint64_t>(i))));
  for (const std::int64_t budget : {8, 13, 64}) {
    engine.reset();
    EngineOptions options = small_options();
    options.max_num_batched_tokens = budget;
    start(options);
    std::vector<RequestHandle> handles;
    for (int i = 0; i < 6; ++i) {
      handles.push_back(*engine->submit(
          seeded(prompt_of(10 + 17 * i, i), 20, 5 + static_cast<std::uint64_t>(i))));
    }
    for (std::size_t i = 0; i < handles.size(); ++i)
      EXPECT_EQ(collect(handles[i]).tokens, alone[i].tokens) << budget << " " << i;
  }
}

TEST_F(EngineTest, SeedsDecide) {
  start();
  const Answer one = ask(seeded(prompt_of(5), 30, 1));
  EXPECT_EQ(one.tokens, ask(seeded(prompt_of(5), 30, 1)).tokens);
  EXPECT_NE(one.tokens, ask(seeded(prompt_of(5), 30, 2)).tokens);
}

TEST_F(EngineTest, SeveralRequestsShareAStep) {
  std::size_t most = 0;
  runner.on_step = [&](const Batch& batch) { most = std::max(most, batch.chunks.size()); };
  Gate gate;
  bool first = true;
  runner.on_step = [&](const Batch& batch) {
    if (std::exchange(first, false)) gate.pass();
    most = std::max(most, batch.chunks.size());
  };
  start();
  std::vector<RequestHandle> handles;
  for (int i = 0; i < 5; ++i) handles.push_back(*engine->submit(greedy(prompt_of(4, i), 10)));
  gate.set(true);
  for (RequestHandle& handle : handles) collect(handle);
  EXPECT_EQ(most, 5u);
}

TEST_F(EngineTest, EndAndStopTokens) {
  // The model says 62 (an end token) after 4 tokens of answer, 1 (the primary one) after 8, 40
  // otherwise.
  runner.shape = [](std::span<const TokenId> tokens, std::span<float> row) {
    std::fill(row.begin(), row.end(), 0.0f);
    const std::size_t n = tokens.size() - 3;
    row[n == 4 ? 62 : n == 8 ? 1 : 40] = 9.0f;
    row[41] = 8.0f;
  };
  start();
  Answer answer = ask(greedy(prompt_of(3), 20));
  EXPECT_EQ(answer.tokens, ids({40, 40, 40, 40, 62}));
  EXPECT_EQ(answer.finish.reason, EndReason::kStop);
  EXPECT_EQ(answer.finish.stop_token, TokenId{62});

  EngineRequest request = greedy(prompt_of(3), 20);
  request.min_tokens = 6;
  answer = ask(std::move(request));
  EXPECT_EQ(answer.tokens, ids({40, 40, 40, 40, 41, 40, 40, 40, 1}));
  EXPECT_EQ(answer.finish.stop_token, std::nullopt);

  request = greedy(prompt_of(3), 20);
  request.ignore_eos = true;
  EXPECT_EQ(ask(std::move(request)).tokens.size(), 20u);

  request = greedy(prompt_of(3), 20);
  request.ignore_eos = true;
  request.stop_token_ids = ids({62});
  EXPECT_EQ(ask(std::move(request)).tokens.size(), 5u);
}

TEST_F(EngineTest, SuppressedTokensAreNeverChosen) {
  runner.shape = [](std::span<const TokenId>, std::span<float> row) { row[63] = 99.0f; };
  start();
  for (const TokenId token : ask(greedy(prompt_of(3), 10)).tokens) EXPECT_NE(token, TokenId{63});
}

TEST_F(EngineTest, LogprobsComeWithTheTokens) {
  start();
  EngineRequest request = greedy(prompt_of(3), 3);
  request.sampling.n_logprobs = 4;
  RequestHandle handle = *engine->submit(std::move(request));
  TokenEvent event;
  do {
    ASSERT_TRUE(handle.receive_until(event, Clock::now() + 60s));
    ASSERT_EQ(event.top.size(), 4u);
    EXPECT_EQ(event.top[0].id, event.token->id);
    EXPECT_EQ(event.top[0].logprob, event.token->logprob);
  } while (!event.finish);
}

class EvenTokens final : public TokenMask {
 public:
  explicit EvenTokens(std::atomic<int>& accepted) : accepted_(accepted) {}
  void restrict(std::span<std::uint32_t> bits) override {
    for (std::uint32_t& word : bits) word &= 0x55555555u;
  }
  void accept(TokenId) override { ++accepted_; }

 private:
  std::atomic<int>& accepted_;
};

TEST_F(EngineTest, AMaskLimitsTheChoice) {
  std::atomic<int> accepted{0};
  start();
  EngineRequest request = seeded(prompt_of(3), 20, 4);
  request.mask = std::make_unique<EvenTokens>(accepted);
  for (const TokenId token : ask(std::move(request)).tokens) EXPECT_EQ(value_of(token) % 2, 0);
  EXPECT_EQ(accepted, 20);
}

TEST_F(EngineTest, DroppingTheHandleFreesSlotAndPages) {
  start();
  std::vector<RequestHandle> handles;
  for (int i = 0; i < 20; ++i) {  // more than fit in a batch: some are waiting
    EngineRequest request = greedy(prompt_of(4, i), 120);
    request.ignore_eos = true;
    handles.push_back(*engine->submit(std::move(request)));
  }
  handles.clear();
  EXPECT_TRUE(
      eventually([&] { return engine->stats().running == 0 && engine->stats().waiting == 0; }));
  EXPECT_EQ(runner.n_open(), 0);
  EXPECT_EQ(engine->stats().used_pages.full, 0);
}

TEST_F(EngineTest, ASlowReaderStopsOnlyItself) {
  EngineOptions options = small_options();
  options.channel_capacity = 4;
  start(options);
  RequestHandle slow = *engine->submit(greedy(prompt_of(4), 50));
  EXPECT_EQ(ask(greedy(prompt_of(4, 1), 3)).tokens.size(), 3u);
  EXPECT_TRUE(eventually([&] { return engine->stats().running == 1; }));
  const Answer answer = collect(slow);
  EXPECT_EQ(answer.tokens.size(), 50u);
}

TEST_F(EngineTest, OnReadyIsCalledWhenTheReaderWaits) {
  // Shared: the engine may still be inside on_ready when the last event is read here.
  const auto ready = std::make_shared<Signal>();
  start();
  EngineRequest request = greedy(prompt_of(4), 5);
  request.on_ready = [ready] { ready->set(); };
  RequestHandle handle = *engine->submit(std::move(request));
  TokenEvent event;
  int n_tokens = 0;
  for (;;) {
    while (!handle.receive(event)) ASSERT_TRUE(ready->wait_until(Clock::now() + 60s));
    ++n_tokens;
    if (event.finish) break;
  }
  EXPECT_EQ(n_tokens, 5);
}

TEST_F(EngineTest, ShuttingDownAborts) {
  start();
  EngineRequest request = greedy(prompt_of(4), 120);
  request.ignore_eos = true;
  EngineOptions options = small_options();
  RequestHandle handle = *engine->submit(std::move(request));
  engine.reset();
  const EndReason reason = collect(handle).finish.reason;
  EXPECT_TRUE(reason == EndReason::kAbort || reason == EndReason::kLength);
}

}  // namespace
}  // namespace gem8
