#include "engine/model_runner.h"

#include <gtest/gtest.h>

#include <cstring>
#include <random>

#include "backend/device.h"
#include "formats/checkpoint.h"
#include "model/model.h"
#include "tests/support/shared_folder.h"

namespace gem8 {
namespace {

Patches random_patches(std::int64_t columns, std::int64_t rows, unsigned seed) {
  std::mt19937 random(seed);
  std::uniform_int_distribution<int> byte(0, 255);
  Patches patches;
  patches.columns = columns;
  for (std::int64_t y = 0; y < rows; ++y) {
    for (std::int64_t x = 0; x < columns; ++x)
      patches.positions.insert(patches.positions.end(), {x, y});
  }
  patches.pixels.resize(static_cast<std::size_t>(columns * rows) * kPatchValues);
  for (float& pixel : patches.pixels) pixel = static_cast<float>(byte(random)) / 255.0f;
  return patches;
}

std::string bytes_of(const SoftTokenMatrix& soft) {
  std::string bytes;
  for (std::int64_t i = 0; i < soft.rows.rows; ++i) {
    const std::size_t element = dtype_bytes(soft.rows.dtype);
    bytes.append(static_cast<const char*>(soft.rows.data) +
                     static_cast<std::size_t>(i * soft.rows.stride) * element,
                 static_cast<std::size_t>(soft.rows.cols) * element);
  }
  return bytes;
}

/// Both activation types, one thread and several: bit for bit what each picture gets alone.
TEST(ModelRunner, PicturesOfOnePassAreWhatTheyAreAlone) {
  const std::vector<Patches> pictures = {random_patches(6, 9, 1), random_patches(15, 3, 2),
                                         random_patches(3, 3, 3), random_patches(12, 15, 4)};
  std::vector<const Patches*> all;
  for (const Patches& picture : pictures) all.push_back(&picture);
  std::vector<std::filesystem::path> models = {GEM8_TEST_DATA "/golden/models/tiny-vision",
                                               GEM8_SOURCE_DIR "/models/demo"};
  if (const auto shared = testing::shared_folder())
    models.push_back(*shared / "golden/vision/tiny-vision-e");  // clipped linears
  for (const std::filesystem::path& name : models) {
    auto opened = Checkpoint::open(name);
    ASSERT_TRUE(opened) << opened.error().text();
    const auto checkpoint = std::make_shared<const Checkpoint>(std::move(*opened));
    for (const DType dtype : {DType::kF32, DType::kBF16}) {
      for (const std::size_t n_threads : {1u, 3u}) {
        SCOPED_TRACE(fmt::format("{} {} {} threads", name.string(), dtype_name(dtype), n_threads));
        ThreadPool pool(n_threads);
        const auto device = make_cpu_device();
        const auto ops = make_cpu_ops(*device, pool, {.activation_dtype = dtype});
        ASSERT_TRUE(ops);
        const auto model = Model::load(checkpoint, **ops);
        ASSERT_TRUE(model) << model.error().text();
        const auto tower = VisionTower::load(checkpoint, **ops);
        ASSERT_TRUE(tower) << tower.error().text();
        const auto cache = KvCache::create(checkpoint->config().text, **ops,
                                           {.sliding_pages = 4, .full_pages = 4});
        ASSERT_TRUE(cache);
        const auto runner = make_model_runner(
            **model, **cache, kv_cache_cost(checkpoint->config().text, dtype), tower->get());
        const auto together = runner->encode(all);
        ASSERT_TRUE(together) << together.error().text();
        ASSERT_EQ(together->size(), pictures.size());
        std::string last;
        for (std::size_t i = 0; i < pictures.size(); ++i) {
          const auto alone = runner->encode(std::span(all).subspan(i, 1));
          ASSERT_TRUE(alone);
          EXPECT_EQ((*together)[i].rows.rows, pictures[i].soft_tokens());
          const std::string bytes = bytes_of((*together)[i]);
          EXPECT_EQ(bytes, bytes_of(alone->front())) << "picture " << i;
          EXPECT_NE(bytes.substr(0, 16), last) << "pictures differ";
          last = bytes.substr(0, 16);
        }
      }
    }
  }
}

TEST(ModelRunner, WithoutATowerPicturesAreRefused) {
  auto opened = Checkpoint::open(std::string(GEM8_TEST_DATA) + "/golden/models/tiny-vision");
  ASSERT_TRUE(opened);
  const auto checkpoint = std::make_shared<const Checkpoint>(std::move(*opened));
  ThreadPool pool(1);
  const auto device = make_cpu_device();
  const auto ops = make_cpu_ops(*device, pool, {});
  const auto model = Model::load(checkpoint, **ops);
  const auto cache =
      KvCache::create(checkpoint->config().text, **ops, {.sliding_pages = 4, .full_pages = 4});
  ASSERT_TRUE(ops && model && cache);
  const auto runner = make_model_runner(
      **model, **cache, kv_cache_cost(checkpoint->config().text, DType::kBF16), nullptr);
  const Patches picture = random_patches(3, 3, 1);
  const Patches* const pictures[] = {&picture};
  const auto refused = runner->encode(pictures);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Code::kUnsupported);
}

}  // namespace
}  // namespace gem8
