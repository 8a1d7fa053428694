// What the engine refuses, and what happens when something fails in the middle.
#include <gtest/gtest.h>

#include <cmath>

#include "engine/engine_fixture.h"

namespace gem8 {
namespace {

using namespace testing;

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

TEST_F(EngineTest, RefusesAllowedTokensThatCannotBeChosen) {
  start();
  const struct {
    std::vector<TokenId> allowed;
    std::int64_t min_tokens;
    std::vector<TokenId> stop;
    bool refused;
  } cases[] = {
      {ids({63}), 0, {}, true},         // suppressed
      {ids({63, 62, 1}), 2, {}, true},  // and the model's end tokens
      {ids({10}), 2, ids({10}), true},  // and the request's
      {ids({62}), 0, {}, false},        // an end token ends the answer
      {ids({63, 10}), 2, {}, false},   {ids({10, 11}), 2, ids({10}), false},
  };
  for (const auto& test : cases) {
    EngineRequest request = greedy(prompt_of(4), 5);
    request.sampling.allowed_token_ids = test.allowed;
    request.min_tokens = test.min_tokens;
    request.stop_token_ids = test.stop;
    const Result<RequestHandle> handle = engine->submit(std::move(request));
    EXPECT_EQ(handle.has_value(), !test.refused) << value_of(test.allowed.front());
    if (handle) continue;
    EXPECT_EQ(handle.error().code, Code::kInvalidArgument);
    EXPECT_EQ(handle.error().context, "allowed_token_ids");
  }
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

}  // namespace
}  // namespace gem8
