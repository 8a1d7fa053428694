#pragma once

#include <gtest/gtest.h>

#include <condition_variable>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "engine/engine.h"
#include "engine/fake_runner.h"

namespace gem8::testing {

inline std::vector<TokenId> ids(std::initializer_list<int> values) {
  std::vector<TokenId> result;
  for (const int value : values) result.push_back(TokenId{value});
  return result;
}

inline std::vector<TokenId> prompt_of(int n, int salt = 0) {
  std::vector<TokenId> result;
  for (int i = 0; i < n; ++i) result.push_back(TokenId{3 + (i * 7 + salt) % 60});
  return result;
}

struct Answer {
  std::vector<TokenId> tokens;
  Finish finish;
  RequestTimes times;
};

inline Answer collect(RequestHandle& handle) {
  Answer answer;
  TokenEvent event;
  const auto deadline = Clock::now() + std::chrono::seconds(60);
  while (handle.receive_until(event, deadline)) {
    if (event.token) answer.tokens.push_back(event.token->id);
    answer.times = event.times;
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
  const auto deadline = Clock::now() + std::chrono::seconds(60);
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

inline EngineOptions small_options() {
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

inline EngineRequest greedy(std::vector<TokenId> prompt, std::int64_t max_tokens) {
  return {.prompt = std::move(prompt), .sampling = {.temperature = 0.0f}, .max_tokens = max_tokens};
}

inline PromptImage image_at(std::int64_t position, std::size_t n_tokens, std::string content_hash) {
  Patches patches;
  patches.positions.resize(n_tokens * kPoolPatches * kPoolPatches * 2);
  return {.position = position,
          .patches = std::make_shared<const Patches>(std::move(patches)),
          .content_hash = std::move(content_hash)};
}

/// A prompt of n tokens with placeholders where the images are.
inline EngineRequest prompt_with_images(int n, std::vector<PromptImage> images,
                                        std::int64_t max_tokens) {
  EngineRequest request = greedy(prompt_of(n), max_tokens);
  for (const PromptImage& image : images) {
    for (std::int64_t i = 0; i < image.n_tokens(); ++i) {
      request.prompt[static_cast<std::size_t>(image.position + i)] = TokenId{60};
    }
  }
  request.images = std::move(images);
  return request;
}

inline EngineRequest seeded(std::vector<TokenId> prompt, std::int64_t max_tokens,
                            std::uint64_t seed) {
  return {.prompt = std::move(prompt), .sampling = {.seed = seed}, .max_tokens = max_tokens};
}

}  // namespace gem8::testing
