#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "backend/device.h"
#include "formats/checkpoint.h"
#include "formats/safetensors.h"
#include "foundation/json/json.h"
#include "foundation/thread_pool.h"
#include "kernels/ops.h"
#include "model/model.h"
#include "tests/support/golden_checkpoint.h"

namespace gem8::testing {

/// The soft tokens of an image prompt: rows [n, hidden] in the order of the placeholders.
struct Soft {
  std::vector<float> rows;
  std::vector<bool> at;  ///< [tokens]
};

/// The tensors of a golden file, as numbers.
class Golden {
 public:
  explicit Golden(const std::filesystem::path& path);

  bool has(const std::string& name) const { return file_->find(name) != nullptr; }
  std::vector<float> floats(const std::string& name) const;
  std::vector<std::int64_t> ints(const std::string& name) const;
  std::vector<TokenId> tokens(const std::string& name) const;
  std::span<const std::int64_t> shape(const std::string& name) const;
  std::vector<std::string> names() const;

  /// Sequences ("s37") with token ids.
  std::vector<std::string> sequences() const;
  /// The positions of a sequence whose tensors are stored.
  std::vector<std::int64_t> positions(const std::string& seq) const;
  std::optional<Soft> soft(const std::string& seq) const;

 private:
  std::optional<SafetensorsFile> file_;
};

/// A model with everything under it.
struct Engine {
  std::unique_ptr<Device> device;
  std::unique_ptr<ThreadPool> pool;
  std::unique_ptr<Ops> ops;
  std::shared_ptr<const Checkpoint> checkpoint;
  std::unique_ptr<Model> model;

  /// Fails the test and returns an empty Engine when something cannot be made.
  static Engine load(const std::filesystem::path& dir, const OpsOptions& options,
                     const ModelOptions& model_options = {.max_batch_tokens = 1280},
                     std::size_t threads = 2);

  std::unique_ptr<KvCache> cache(std::int64_t pages = 256) const;
  std::vector<float> read(ConstMat x) const;  ///< rows x cols, widened
};

/// Everything an observer can see of a run, rows in the order they were computed.
class Recorder : public Observer {
 public:
  explicit Recorder(const Engine& engine) : engine_(engine) {}

  void tensor(Tap tap, std::int32_t layer, ConstMat x) override;
  void routing(std::int32_t layer, const Routing& chosen, ConstMat logits) override;

  std::vector<float>& of(Tap tap, std::int32_t layer = 0) { return tensors_[{tap, layer}]; }
  std::vector<std::int32_t>& chosen_experts(std::int32_t layer) { return experts_[layer]; }
  std::vector<float>& expert_weights(std::int32_t layer) { return weights_[layer]; }
  std::vector<float>& router_logits(std::int32_t layer) { return logits_[layer]; }

 private:
  const Engine& engine_;
  std::map<std::pair<Tap, std::int32_t>, std::vector<float>> tensors_;
  std::map<std::int32_t, std::vector<std::int32_t>> experts_;
  std::map<std::int32_t, std::vector<float>> weights_;
  std::map<std::int32_t, std::vector<float>> logits_;
};

/// Runs `ids` as one sequence in chunks of the given sizes (the last size repeats; none: one shot);
/// logits [tokens, vocab].
std::vector<float> run(const Engine& engine, std::span<const TokenId> ids,
                       Observer* observer = nullptr, std::span<const std::size_t> chunks = {},
                       const Soft* soft = nullptr);

/// The largest absolute difference; infinity where sizes differ or either is NaN.
double largest_difference(std::span<const float> a, std::span<const float> b);

/// Rows of a [n, cols] matrix.
std::vector<float> take_rows(std::span<const float> x, std::size_t cols,
                             std::span<const std::int64_t> rows);

/// -log p(ids[t + 1] | ids[..t]) for logits [tokens, vocab]: one fewer than tokens.
std::vector<float> negative_log_likelihood(std::span<const float> logits,
                                           std::span<const TokenId> ids, std::int64_t vocab);

/// A JSON file of the golden data; fails the test when it cannot be read.
Json read_json(const std::filesystem::path& path);

/// The models of the golden data, one of every kind, and their names as test suffixes.
inline auto family() {
  return ::testing::Values("tiny-26b", "tiny-31b", "tiny-e2b", "tiny-e4b", "tiny-12b", "text-only",
                           "wide-26b");
}
inline std::string family_name(const ::testing::TestParamInfo<const char*>& test) {
  std::string name = test.param;
  std::ranges::replace(name, '-', '_');
  return name;
}

/// A model of the family, named by the parameter, with what the reference computed for it. Skipped
/// where that does not ship with the sources.
class GoldenModelTest : public ::testing::TestWithParam<const char*> {
 protected:
  explicit GoldenModelTest(DType activations) : activations_(activations) {}

  void SetUp() override {
    const std::string name = GetParam();
    const auto dir = golden_path("models/" + name);
    const auto tensors = golden_path("text/" + name + ".safetensors");
    const auto facts = golden_path("text/" + name + ".json");
    if (!dir || !tensors || !facts)
      GTEST_SKIP() << "no golden data of " << name << " (it does not ship with the sources)";
    golden_.emplace(*tensors);
    facts_ = read_json(*facts);
    engine_ = Engine::load(*dir, {.activation_dtype = activations_});
    ASSERT_NE(engine_.model, nullptr);
  }

  const DType activations_;
  std::optional<Golden> golden_;
  Json facts_;
  Engine engine_;
};

}  // namespace gem8::testing
