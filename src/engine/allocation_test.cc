// A step in steady state allocates nothing: counted by replacing the global operator new of this
// binary.
#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <new>

#include "engine/engine.h"
#include "engine/fake_runner.h"

namespace {
std::atomic<std::int64_t> n_allocations{0};
}

#pragma GCC diagnostic ignored "-Wmismatched-new-delete"  // malloc and free are the pair here
void* operator new(std::size_t bytes) {
  n_allocations.fetch_add(1, std::memory_order_relaxed);
  if (void* memory = std::malloc(bytes)) return memory;
  throw std::bad_alloc();
}
void operator delete(void* memory) noexcept {
  std::free(memory);
}
void operator delete(void* memory, std::size_t) noexcept {
  std::free(memory);
}

namespace gem8 {
namespace {

TEST(Allocation, AStepInSteadyStateAllocatesNothing) {
  testing::FakeRunner runner;
  std::vector<std::int64_t> counts;
  counts.reserve(4096);
  runner.on_step = [&](const Batch&) {
    counts.push_back(n_allocations.load(std::memory_order_relaxed));
  };
  ThreadPool pool(2);
  auto engine = *Engine::start(runner, pool,
                               {.max_model_len = 1024,
                                .max_num_seqs = 4,
                                .max_num_batched_tokens = 64,
                                .channel_capacity = 512});
  std::vector<RequestHandle> handles;
  for (int i = 0; i < 4; ++i) {
    EngineRequest request{.prompt = {TokenId{5}, TokenId{6 + i}}, .max_tokens = 400};
    request.sampling = {.temperature = 0.8f,
                        .top_p = 0.9f,
                        .top_k = 20,
                        .frequency_penalty = 0.1f,
                        .repetition_penalty = 1.1f,
                        .seed = static_cast<std::uint64_t>(i)};
    if (i == 1) request.sampling.temperature = 0.0f;
    request.ignore_eos = true;
    handles.push_back(*engine->submit(std::move(request)));
  }
  TokenEvent event;
  for (RequestHandle& handle : handles) {
    do {
      ASSERT_TRUE(handle.receive_until(event, Clock::now() + std::chrono::seconds(60)));
    } while (!event.finish);
  }
  engine.reset();
  // After the last prompt has joined and before the first answer ends, nothing but steps happens.
  ASSERT_GT(counts.size(), 300u);
  EXPECT_EQ(counts[300] - counts[50], 0);
}

}  // namespace
}  // namespace gem8
