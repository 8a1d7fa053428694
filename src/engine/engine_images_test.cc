// Images of requests in the engine.
#include <gtest/gtest.h>

#include "engine/engine_fixture.h"

namespace gem8 {
namespace {

using namespace testing;

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
