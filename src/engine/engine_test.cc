#include "engine/engine.h"

#include <gtest/gtest.h>

#include <mutex>
#include <set>

#include "engine/fake_runner.h"

namespace gem8 {
namespace {

using testing::FakeRunner;
using namespace std::chrono_literals;

std::vector<TokenId> ids(std::initializer_list<int> values) {
  std::vector<TokenId> result;
  for (const int value : values) result.push_back(TokenId{value});
  return result;
}

std::vector<TokenId> prompt_of(int n, int salt = 0) {
  std::vector<TokenId> result;
  for (int i = 0; i < n; ++i) result.push_back(TokenId{3 + (i * 7 + salt) % 60});
  return result;
}

struct Answer {
  std::vector<TokenId> tokens;
  Finish finish;
};

Answer collect(RequestHandle& handle) {
  Answer answer;
  TokenEvent event;
  const auto deadline = Clock::now() + 60s;
  while (handle.receive_until(event, deadline)) {
    if (event.token) answer.tokens.push_back(event.token->id);
    if (event.finish) {
      answer.finish = *event.finish;
      return answer;
    }
  }
  ADD_FAILURE() << "no end of the answer in 60 s";
  return answer;
}

/// Polls until the condition holds; false after a minute.
template <class Condition>
bool eventually(Condition condition) {
  const auto deadline = Clock::now() + 60s;
  while (!condition()) {
    if (Clock::now() > deadline) return false;
    std::this_thread::yield();
  }
  return true;
}

/// Holds the engine before its next step until released.
class Gate {
 public:
  void pass() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return open_; });
  }
  void set(bool open) {
    {
      const std::lock_guard lock(mutex_);
      open_ = open;
    }
    changed_.notify_all();
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool open_ = false;
};

EngineOptions small_options() {
  return {.max_model_len = 128,
          .max_num_seqs = 8,
          .max_num_batched_tokens = 64,
          .end_tokens = {.primary = TokenId{1},
                         .eos = ids({1, 62}),
                         .suppress = ids({63}),
                         .placeholders = ids({60})}};
}

class EngineTest : public ::testing::Test {
 protected:
  /// Changes of `runner` come before this.
  Engine& start(const EngineOptions& options = small_options()) {
    auto started = Engine::start(runner, pool, options);
    EXPECT_TRUE(started);
    engine = *std::move(started);
    return *engine;
  }

  Answer ask(EngineRequest request) {
    Result<RequestHandle> handle = engine->submit(std::move(request));
    EXPECT_TRUE(handle) << handle.error().text();
    return collect(*handle);
  }

  FakeRunner runner;
  ThreadPool pool{2};
  std::unique_ptr<Engine> engine;
};

EngineRequest greedy(std::vector<TokenId> prompt, std::int64_t max_tokens) {
  return {.prompt = std::move(prompt), .sampling = {.temperature = 0.0f}, .max_tokens = max_tokens};
}

PromptImage image_at(std::int64_t position, std::size_t n_tokens, std::string content_hash) {
  Patches patches;
  patches.positions.resize(n_tokens * kPoolPatches * kPoolPatches * 2);
  return {.position = position,
          .patches = std::make_shared<const Patches>(std::move(patches)),
          .content_hash = std::move(content_hash)};
}

/// A prompt of n tokens with placeholders where the images are.
EngineRequest prompt_with_images(int n, std::vector<PromptImage> images, std::int64_t max_tokens) {
  EngineRequest request = greedy(prompt_of(n), max_tokens);
  for (const PromptImage& image : images) {
    for (std::int64_t i = 0; i < image.n_tokens(); ++i) {
      request.prompt[static_cast<std::size_t>(image.position + i)] = TokenId{60};
    }
  }
  request.images = std::move(images);
  return request;
}

EngineRequest seeded(std::vector<TokenId> prompt, std::int64_t max_tokens, std::uint64_t seed) {
  return {.prompt = std::move(prompt), .sampling = {.seed = seed}, .max_tokens = max_tokens};
}

TEST_F(EngineTest, AnswersWithMaxTokensTokens) {
  start();
  const Answer answer = ask(greedy(prompt_of(5), 7));
  EXPECT_EQ(answer.tokens.size(), 7u);
  EXPECT_EQ(answer.finish.reason, EndReason::kLength);
  EXPECT_LE(answer.finish.times.queued, answer.finish.times.scheduled);
  EXPECT_LE(answer.finish.times.first_token, answer.finish.times.last_token);
  EXPECT_TRUE(eventually([&] { return runner.n_open() == 0; }));
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
  Signal ready;
  start();
  EngineRequest request = greedy(prompt_of(4), 5);
  request.on_ready = [&] { ready.set(); };
  RequestHandle handle = *engine->submit(std::move(request));
  TokenEvent event;
  int n_tokens = 0;
  for (;;) {
    while (!handle.receive(event)) ASSERT_TRUE(ready.wait_until(Clock::now() + 60s));
    ++n_tokens;
    if (event.finish) break;
  }
  EXPECT_EQ(n_tokens, 5);
}

TEST_F(EngineTest, RefusesWhatCannotRun) {
  EngineOptions options = small_options();
  start(options);
  const auto field_of = [&](EngineRequest request) {
    const auto handle = engine->submit(std::move(request));
    EXPECT_FALSE(handle);
    if (handle) return std::string();
    EXPECT_EQ(handle.error().code, Code::kInvalidArgument);
    return handle.error().context;
  };
  EXPECT_EQ(field_of(greedy({}, 5)), "prompt");
  EXPECT_EQ(field_of(greedy(ids({64}), 5)), "prompt");
  EXPECT_EQ(field_of(greedy(ids({-1}), 5)), "prompt");
  EXPECT_EQ(field_of(greedy(prompt_of(128), 5)), "input_tokens");
  EXPECT_EQ(field_of(greedy(prompt_of(4), 129)), "max_tokens");
  EXPECT_EQ(field_of(greedy(prompt_of(4), 0)), "max_tokens");
  EngineRequest request = greedy(prompt_of(4), 5);
  request.min_tokens = 6;
  EXPECT_EQ(field_of(std::move(request)), "min_tokens");
  request = greedy(prompt_of(4), 5);
  request.sampling.top_p = 0.0f;
  EXPECT_EQ(field_of(std::move(request)), "top_p");
  request = greedy(prompt_of(4), 5);
  request.stop_token_ids = ids({99});
  EXPECT_EQ(field_of(std::move(request)), "stop_token_ids");
  EXPECT_EQ(field_of(greedy(std::vector<TokenId>(60, TokenId{60}), 5)),
            "messages");  // an image larger than a step
  request = greedy(prompt_of(4), 5);
  request.images.push_back(image_at(3, 2, "x"));  // where no placeholders are
  EXPECT_EQ(field_of(std::move(request)), "messages");
  request = prompt_with_images(20, {image_at(5, 3, "x")}, 5);
  ++request.images[0].position;
  EXPECT_EQ(field_of(std::move(request)), "messages");
  request = prompt_with_images(20, {image_at(5, 3, "x")}, 5);
  request.images[0].content_hash.clear();
  EXPECT_EQ(field_of(std::move(request)), "messages");

  const Result<RequestHandle> too_long = engine->submit(greedy(prompt_of(200), 5));
  EXPECT_NE(too_long.error().message.find("maximum context length is 128 tokens"),
            std::string::npos);
  EXPECT_NE(too_long.error().message.find("200"), std::string::npos);
}

TEST_F(EngineTest, RefusesMorePagesThanThereAre) {
  FakeRunner tight({8, 8});
  engine = *Engine::start(tight, pool, small_options());
  EXPECT_EQ(engine->submit(greedy(prompt_of(4), 100)).error().code, Code::kInvalidArgument);
  EXPECT_EQ(ask(greedy(prompt_of(4), 60)).tokens.size(), 60u);
  // what fits only one after the other still gets done
  std::vector<RequestHandle> handles;
  for (int i = 0; i < 4; ++i) handles.push_back(*engine->submit(greedy(prompt_of(20, i), 30)));
  for (RequestHandle& handle : handles) EXPECT_EQ(collect(handle).tokens.size(), 30u);
  engine.reset();
}

TEST_F(EngineTest, AFullQueueIsUnavailable) {
  Gate gate;
  runner.on_step = [&](const Batch&) { gate.pass(); };
  EngineOptions options = small_options();
  options.max_queued = 2;
  start(options);
  std::vector<RequestHandle> handles;
  handles.push_back(*engine->submit(greedy(prompt_of(4), 2)));
  handles.push_back(*engine->submit(greedy(prompt_of(4), 2)));
  EXPECT_EQ(engine->has_room().error().code, Code::kUnavailable);
  EXPECT_EQ(engine->submit(greedy(prompt_of(4), 2)).error().code, Code::kUnavailable);
  gate.set(true);
  for (RequestHandle& handle : handles) collect(handle);
  EXPECT_TRUE(eventually([&] { return engine->submit(greedy(prompt_of(4), 2)).has_value(); }));
}

TEST_F(EngineTest, LimitsThatContradictEachOther) {
  EngineOptions options = small_options();
  options.max_num_batched_tokens = 4;
  EXPECT_EQ(Engine::start(runner, pool, options).error().code, Code::kInvalidArgument);
  options.max_num_batched_tokens = 1024;
  EXPECT_EQ(Engine::start(runner, pool, options).error().code, Code::kInvalidArgument);
}

TEST_F(EngineTest, ARequestTheModelRefusesFailsAlone) {
  Gate gate;
  runner.on_step = [&](const Batch&) { gate.pass(); };
  runner.fault = [](const Batch& batch) -> Status {
    for (const SequenceChunk& chunk : batch.chunks) {
      if (chunk.tokens[0] == TokenId{50})
        return fail(Code::kInvalidArgument, "token 50 is not to my taste");
    }
    return {};
  };
  start();
  RequestHandle good = *engine->submit(greedy(prompt_of(4), 5));
  RequestHandle bad = *engine->submit(greedy(ids({50, 4}), 5));
  RequestHandle other = *engine->submit(greedy(prompt_of(6), 5));
  gate.set(true);
  EXPECT_EQ(collect(good).tokens.size(), 5u);
  const Answer answer = collect(bad);
  EXPECT_EQ(answer.finish.reason, EndReason::kError);
  EXPECT_EQ(answer.finish.error.code, Code::kInvalidArgument);
  EXPECT_EQ(collect(other).finish.reason, EndReason::kLength);
  EXPECT_FALSE(engine->stats().dead);
}

TEST_F(EngineTest, AFailedDeviceEndsEverything) {
  runner.fault = [](const Batch&) -> Status { return fail(Code::kInternal, "the device is gone"); };
  start();
  RequestHandle handle = *engine->submit(greedy(prompt_of(4), 5));
  EXPECT_EQ(collect(handle).finish.reason, EndReason::kError);
  EXPECT_TRUE(eventually([&] { return engine->stats().dead; }));
  EXPECT_EQ(engine->submit(greedy(prompt_of(4), 5)).error().code, Code::kInternal);
}

TEST_F(EngineTest, NoTokenLeftIsAnErrorOfThatRequest) {
  runner.shape = [](std::span<const TokenId> tokens, std::span<float> row) {
    if (tokens.size() == 6) std::fill(row.begin(), row.end(), NAN);
  };
  start();
  const Answer answer = ask(greedy(prompt_of(4), 5));
  EXPECT_EQ(answer.finish.reason, EndReason::kError);
  EXPECT_EQ(answer.tokens.size(), 2u);
  EXPECT_EQ(ask(greedy(prompt_of(10), 5)).tokens.size(), 5u);
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

TEST_F(EngineTest, ImagesReachTheModelWholeAndOnce) {
  std::mutex mutex;
  std::vector<std::int64_t> positions;
  runner.on_step = [&](const Batch& batch) {
    const std::lock_guard lock(mutex);
    for (const SequenceChunk& chunk : batch.chunks) {
      for (const SoftTokens& soft : chunk.soft) {
        EXPECT_LE(soft.offset + soft.rows.rows, std::ssize(chunk.tokens));
        positions.push_back(chunk.first_position + soft.offset);
      }
    }
  };
  EngineOptions options = small_options();
  options.max_num_batched_tokens = 20;
  start(options);
  EXPECT_EQ(ask(prompt_with_images(
                    50, {image_at(5, 3, "a"), image_at(15, 10, "b"), image_at(30, 3, "a")}, 3))
                .tokens.size(),
            3u);
  const std::lock_guard lock(mutex);
  EXPECT_EQ(positions, (std::vector<std::int64_t>{5, 15, 30}));
  EXPECT_EQ(runner.n_encoded(), 2) << "equal hash, one run of the tower";
  EXPECT_EQ(engine->stats().images, 3);
  EXPECT_EQ(engine->stats().images_cached, 1);
}

TEST_F(EngineTest, ImagesOfAStepShareAPassOfTheTower) {
  EngineOptions options = small_options();
  options.max_num_batched_tokens = 64;
  options.max_pass_patches = 9 * 8;
  start(options);
  std::mutex mutex;
  std::vector<std::int64_t> sizes;
  runner.on_step = [&](const Batch& batch) {
    const std::lock_guard lock(mutex);
    for (const SequenceChunk& chunk : batch.chunks) {
      for (const SoftTokens& soft : chunk.soft) sizes.push_back(soft.rows.rows);
    }
  };
  // 3 + 5 fill a pass, 9 is too large for any and goes alone, 2 is left.
  ask(prompt_with_images(50,
                         {image_at(2, 3, "a"), image_at(7, 5, "b"), image_at(14, 3, "a"),
                          image_at(20, 9, "c"), image_at(32, 2, "d"), image_at(36, 5, "b")},
                         1));
  const std::lock_guard lock(mutex);
  EXPECT_EQ(sizes, (std::vector<std::int64_t>{3, 5, 3, 9, 2, 5})) << "each has its own rows";
  EXPECT_EQ(runner.n_encoded(), 4);
  EXPECT_EQ(runner.n_passes(), 3);
  EXPECT_EQ(engine->stats().images, 6);
  EXPECT_EQ(engine->stats().images_cached, 2);
}

TEST_F(EngineTest, ImagesAreRememberedWithinTheirRoom) {
  EngineOptions options = small_options();
  options.image_cache_bytes = 60;  // one image of 3 x 4 floats, not two
  start(options);
  for (const char* hash : {"a", "a", "b", "b", "a"}) {
    ask(prompt_with_images(20, {image_at(5, 3, hash)}, 1));
  }
  EXPECT_EQ(runner.n_encoded(), 3);
}

TEST_F(EngineTest, AnImageThatCannotBeEncodedFailsItsRequestAlone) {
  runner.encode_fault = [](const Patches& image) -> Status {
    if (image.soft_tokens() == 3) return fail(Code::kUnsupported, "no");
    return {};
  };
  start();
  RequestHandle bystander = *engine->submit(greedy(prompt_of(10), 30));
  const Answer bad = ask(prompt_with_images(20, {image_at(5, 3, "a")}, 5));
  EXPECT_EQ(bad.finish.reason, EndReason::kError);
  EXPECT_EQ(bad.finish.error.code, Code::kUnsupported);
  EXPECT_EQ(collect(bystander).tokens.size(), 30u);
  EXPECT_EQ(ask(prompt_with_images(20, {image_at(5, 4, "b")}, 5)).tokens.size(), 5u);
  engine.reset();
  EXPECT_EQ(runner.n_open(), 0);
}

}  // namespace
}  // namespace gem8
