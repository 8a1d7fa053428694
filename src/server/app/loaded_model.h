#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "engine/engine.h"
#include "foundation/result.h"
#include "server/app/served_model.h"

namespace gem8::app {

struct LoadOptions {
  std::string model;  ///< a folder, a hub id in the cache, or "demo"
  std::size_t n_threads = 1;
  bool fp8_activations = false;
  std::optional<std::int64_t> max_model_len;  ///< absent: the model's, or what fits; -1: what fits
  std::optional<double> memory_share;  ///< of the machine's memory, weights and cache together
  std::optional<std::int64_t> cache_bytes;
  std::int64_t max_num_seqs = 256;
  std::int64_t max_num_batched_tokens = 2048;
  std::int64_t max_queued = 0;
  std::string chat_template;  ///< a file; empty: the checkpoint's
  bool neutral_sampling =
      false;  ///< defaults of generation_config.json do not count; its end tokens do
  std::string generation_config;  ///< a folder instead of the checkpoint's
  Json override_generation_config;
  std::string quantization;  ///< the method that the checkpoint must have; empty: any
  bool images = true;        ///< load the image tower, where there is one
};

/// How much memory goes where, in bytes, and what it holds.
struct MemoryPlan {
  std::int64_t weights = 0;  ///< mapped from the checkpoint
  std::int64_t cache = 0;
  std::int64_t machine = 0;  ///< what this process may use
  std::int64_t max_model_len = 0;
  std::int64_t max_num_batched_tokens = 0;  ///< raised so that an image fits into a step
  double full_requests = 0.0;  ///< requests of max_model_len that fit in the cache at a time
};

/// A checkpoint with everything that turns requests for it into answers.
class LoadedModel {
 public:
  /// Errors: those of its parts, naming file or tensor; kInvalidArgument for options that
  /// contradict the checkpoint or the API's limits; kNotFound for a generation_config that is not
  /// there; kExhausted when the cache does not hold one request of an explicit max_model_len, with
  /// the numbers.
  static Result<std::unique_ptr<LoadedModel>> load(const LoadOptions& options);
  ~LoadedModel();

  Engine& engine();
  const Tokenizer& tokenizer() const;
  const MemoryPlan& plan() const;
  /// Whether the model has an image tower that gem8 runs.
  bool takes_images() const;
  /// Soft tokens of an image when nothing else is said.
  int default_soft_tokens() const;
  /// Names, defaults, tokenizer, chat rendering; refers to this.
  ServedModel served(std::vector<std::string> names) const;
  /// Stages of loading with their seconds.
  const std::vector<std::pair<std::string, double>>& time_line() const;

 private:
  struct Parts;
  explicit LoadedModel(std::unique_ptr<Parts> parts);
  std::unique_ptr<Parts> parts_;
};

/// 1234567 -> "1,234,567".
std::string with_commas(std::int64_t value);

}  // namespace gem8::app
