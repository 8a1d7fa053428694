#include <gtest/gtest.h>

#include <latch>

#include "engine/engine.h"
#include "engine/fake_runner.h"
#include "tests/support/allocation_counter.h"

namespace gem8 {
namespace {

TEST(Allocation, AStepInSteadyStateAllocatesNothing) {
  struct Step {
    long allocations = 0;
    std::size_t n_requests = 0;
  };
  testing::FakeRunner runner;
  const testing::AllocationCounter allocations;
  std::vector<Step> steps;
  steps.reserve(4096);
  std::latch submitted(1);
  runner.on_step = [&](const Batch& batch) {
    submitted.wait();  // a slow submission must not allocate beside the steps that are counted
    steps.push_back({allocations.count(), batch.chunks.size()});
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
  submitted.count_down();
  TokenEvent event;
  for (RequestHandle& handle : handles) {
    do {
      ASSERT_TRUE(handle.receive_until(event, Clock::now() + std::chrono::seconds(60)));
    } while (!event.finish);
  }
  engine.reset();
  // The second step has all four prompts, and no answer ends before its 400 tokens: in between
  // nothing but steps happens.
  ASSERT_GT(steps.size(), 300u);
  EXPECT_EQ(steps[50].n_requests, 4u);
  EXPECT_EQ(steps[300].n_requests, 4u);
  EXPECT_EQ(steps[300].allocations - steps[50].allocations, 0);
}

}  // namespace
}  // namespace gem8
