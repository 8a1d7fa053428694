// The image tower and the text model behind it against the reference implementation, float32, every
// stage within its stated bound.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <map>

#include "backend/device.h"
#include "formats/checkpoint.h"
#include "formats/safetensors.h"
#include "foundation/json/json.h"
#include "foundation/mapped_file.h"
#include "kernels/ops.h"
#include "model/model.h"
#include "model/vision/tower.h"
#include "tests/support/shared_folder.h"

namespace gem8 {
namespace {

namespace fs = std::filesystem;

/// Where a model and its goldens stand: one in the tree, the other in the folder of large fixtures.
struct Place {
  const char* name;
  fs::path model;
  fs::path golden;
  bool exists() const {
    return fs::exists(model / "config.json") && fs::exists(golden / "cases.json");
  }
};

std::vector<Place> places() {
  const fs::path tests = GEM8_TEST_DATA;
  std::vector<Place> list{
      {"tiny-vision", tests / "golden/models/tiny-vision", tests / "golden/vision/tiny-vision"}};
  const auto shared = testing::shared_folder();
  const fs::path e = shared ? *shared / "golden/vision/tiny-vision-e" : fs::path();
  list.push_back({"tiny-vision-e", e, e});
  return list;
}

/// Everything a pass showed, as float32 by name.
class Recorder : public VisionObserver, public Observer {
 public:
  void tensor(VisionTap tap, std::int32_t layer, ConstMat x) override {
    switch (tap) {
      case VisionTap::kPatchEmbed:
        record("patch_embed", x);
        break;
      case VisionTap::kLayerOut:
        record(fmt::format("layer_{}", layer), x);
        break;
      case VisionTap::kPooled:
        record("pooled", x);
        break;
      case VisionTap::kTower:
        record("tower", x);
        break;
    }
  }
  void tensor(Tap tap, std::int32_t layer, ConstMat x) override {
    if (tap == Tap::kLayerOut) record(fmt::format("text_layer_{}", layer), x);
  }
  void record(const std::string& name, const ConstMat& x) {
    std::vector<float>& values = seen[name];
    values.clear();
    for (std::int64_t row = 0; row < x.rows; ++row) {
      const float* from = static_cast<const float*>(x.data) + row * x.stride;
      values.insert(values.end(), from, from + x.cols);
    }
  }

  std::map<std::string, std::vector<float>> seen;
};

std::span<const float> floats(const TensorInfo& tensor) {
  return {reinterpret_cast<const float*>(tensor.bytes.data()), tensor.bytes.size() / sizeof(float)};
}

/// The patches a case's pixel bytes describe.
Patches patches_of(const TensorInfo& bytes, const Json& image) {
  Patches patches;
  patches.columns = image.find("patches_wide")->as_int();
  for (const std::byte byte : bytes.bytes)
    patches.pixels.push_back(static_cast<float>(std::to_integer<int>(byte)) * (1.0f / 255.0f));
  const std::int64_t rows = image.find("patches_high")->as_int();
  for (std::int64_t y = 0; y < rows; ++y) {
    for (std::int64_t x = 0; x < patches.columns; ++x)
      patches.positions.insert(patches.positions.end(), {x, y});
  }
  return patches;
}

class VisionGolden : public ::testing::TestWithParam<std::size_t> {};

TEST_P(VisionGolden, EveryStageWithinItsBound) {
  const Place place = places()[GetParam()];
  if (!place.exists())
    GTEST_SKIP() << place.name << " lies in the shared fixtures folder, which is not here";

  ThreadPool pool(2);
  const auto device = make_cpu_device();
  const auto ops = make_cpu_ops(*device, pool, {.activation_dtype = DType::kF32});
  ASSERT_TRUE(ops) << ops.error().text();
  auto opened = Checkpoint::open(place.model);
  ASSERT_TRUE(opened) << opened.error().text();
  const auto checkpoint = std::make_shared<const Checkpoint>(std::move(*opened));
  const auto model = Model::load(checkpoint, **ops);
  ASSERT_TRUE(model) << model.error().text();
  const auto tower = VisionTower::load(checkpoint, **ops);
  ASSERT_TRUE(tower) << tower.error().text();
  const auto golden = SafetensorsFile::open(place.golden / "golden.safetensors");
  ASSERT_TRUE(golden) << golden.error().text();
  const auto cases = parse_json(*read_text_file(place.golden / "cases.json"));
  ASSERT_TRUE(cases);

  std::size_t n_compared = 0;
  for (const Json& item : cases->find("cases")->as_array()) {
    const std::string name = item.find("name")->as_string();
    SCOPED_TRACE(std::string(place.name) + " " + name);
    Recorder recorder;

    std::vector<TokenId> ids;
    for (const Json& id : item.find("input_ids")->as_array())
      ids.push_back(TokenId{static_cast<std::int32_t>(id.as_int())});
    std::vector<Patches> images;
    for (std::size_t i = 0; i < item.find("images")->as_array().size(); ++i) {
      if (item.find("image_file") != nullptr) {
        const auto file =
            MappedFile::open(fs::path(GEM8_TEST_DATA) / "golden/vision/images/rgb_37x61.png");
        ASSERT_TRUE(file);
        const auto picture = decode_image(file->bytes());
        ASSERT_TRUE(picture);
        images.push_back(*preprocess_image(*picture, 70));
      } else {
        const TensorInfo* bytes = golden->find(fmt::format("{}.pixel_bytes.{}", name, i));
        ASSERT_NE(bytes, nullptr);
        images.push_back(patches_of(*bytes, item.find("images")->as_array()[i]));
      }
    }
    std::vector<const Patches*> pointers;
    for (const Patches& image : images) pointers.push_back(&image);

    SoftTokenMatrix soft;
    std::vector<SoftTokens> inserted;
    if (!images.empty()) {
      auto encoded = (*tower)->encode(pointers, &recorder);
      ASSERT_TRUE(encoded) << encoded.error().text();
      soft = std::move(*encoded);
      recorder.record("soft_tokens", soft.rows);
      const TokenId placeholder{*checkpoint->config().tokens.image};
      std::int64_t row = 0;
      std::size_t from = 0;
      for (const Patches& image : images) {
        const auto found =
            std::find(ids.begin() + static_cast<std::ptrdiff_t>(from), ids.end(), placeholder);
        ASSERT_NE(found, ids.end());
        ConstMat rows = soft.rows;
        rows.data = static_cast<const float*>(rows.data) + row * rows.stride;
        rows.rows = image.soft_tokens();
        inserted.push_back({found - ids.begin(), rows});
        row += image.soft_tokens();
        from = static_cast<std::size_t>(found - ids.begin() + image.soft_tokens());
      }
    }

    auto cache =
        KvCache::create(checkpoint->config().text, **ops, {.sliding_pages = 16, .full_pages = 16});
    ASSERT_TRUE(cache) << cache.error().text();
    SequenceChunk chunk{
        .seq = (*cache)->open(), .tokens = ids, .soft = inserted, .logits = Logits::kAll};
    std::vector<float> logits(ids.size() * static_cast<std::size_t>((*model)->vocab()));
    const Mat logit_mat{logits.data(), DType::kF32, static_cast<std::int64_t>(ids.size()),
                        (*model)->vocab(), (*model)->vocab()};
    const Status status = (*model)->forward({.chunks = {&chunk, 1}}, **cache, logit_mat, &recorder);
    ASSERT_TRUE(status) << status.error().text();
    recorder.seen["logits"] = logits;

    for (const JsonMember& bound : item.find("bounds")->as_object()) {
      const TensorInfo* wanted = golden->find(name + "." + bound.key);
      if (wanted == nullptr) continue;  // only some stages of "file" are stored
      const std::span<const float> expected = floats(*wanted);
      const std::vector<float>& seen = recorder.seen[bound.key];
      ASSERT_GE(seen.size(), expected.size()) << bound.key;
      const std::size_t skip =
          seen.size() - expected.size();  // "file" stores the last rows of the logits
      float largest = 0.0f;
      for (std::size_t i = 0; i < expected.size(); ++i) {
        const float difference = std::abs(seen[skip + i] - expected[i]);
        if (!(difference <= largest)) largest = difference;
      }
      EXPECT_LE(largest, bound.value.as_double()) << bound.key;
      ++n_compared;
    }
  }
  EXPECT_GT(n_compared, 30u);
}

INSTANTIATE_TEST_SUITE_P(Models, VisionGolden, ::testing::Values(0u, 1u));

}  // namespace
}  // namespace gem8
