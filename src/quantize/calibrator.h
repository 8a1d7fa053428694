#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <vector>

#include "formats/checkpoint.h"
#include "foundation/json/json.h"
#include "foundation/result.h"
#include "foundation/token_id.h"
#include "model/model.h"
#include "quantize/hidden_states.h"
#include "quantize/linears.h"
#include "quantize/token_sample.h"

namespace gem8 {

/// What calibration saw at the inputs of one layer's linears.
struct LayerStatistics {
  std::array<float, kInputSites> amax{};  ///< largest |x| per InputSite, over every token
  std::vector<std::int64_t> tokens_per_expert;
  std::vector<float>
      expert_down_amax;  ///< of each expert's down projection; meaningless where no token came

  Json to_json() const;
  static Result<LayerStatistics> from_json(const Json& value);
};

/// One forward pass per sample, pictures included, layer by layer: all samples through layer i
/// before any goes through layer i + 1, so that one layer's weights are in memory at a time.
/// Samples share steps where they fit; by the ops' contract that changes no bit of any of them.
///
/// Hidden states live in two files in `folder`, read from one and written to the other. After
/// layer() they are on disk, so that an interrupted run can continue with resume().
class Calibrator {
 public:
  /// None of the samples is empty or longer than model.max_batch_tokens(); `seeing.tower` may be
  /// null when none shows a picture. `checkpoint` is where the weights are: each layer's leave
  /// memory when it is done. All must outlive this. `hidden_bytes`: hidden states beyond it leave
  /// memory as soon as they are used. Errors: kExhausted (disk, memory), kInvalidArgument (a token
  /// outside the vocabulary).
  static Result<std::unique_ptr<Calibrator>> create(const Checkpoint& checkpoint,
                                                    SeeingModel seeing,
                                                    std::span<const TokenSample> samples,
                                                    const std::filesystem::path& folder,
                                                    std::uint64_t hidden_bytes);
  ~Calibrator();

  /// Computes the input of layer 0. Errors: also those of encode_image().
  Status start();
  /// Takes up the hidden states that a run with the same model and samples left after
  /// `finished_layers`. Error: kNotFound or kCorrupt when they are not there: then start().
  Status resume(std::int32_t finished_layers);
  /// The last layer after which resume() can take up: models that share keys and values between
  /// layers need those of the run itself.
  std::int32_t last_resumable_layer() const;

  /// Runs the next layer. Errors: kExhausted (disk); kCorrupt when an input is infinite or NaN, by
  /// layer and site.
  Result<LayerStatistics> next_layer();
  std::int32_t layer() const { return layer_; }
  std::int64_t tokens() const { return tokens_; }

  /// Deletes the files. Nothing else may be called afterwards.
  void remove_files();

 private:
  struct StepBatch;
  class Watcher;

  Calibrator(const Checkpoint& checkpoint, SeeingModel seeing, std::span<const TokenSample> samples,
             std::filesystem::path folder, std::uint64_t hidden_bytes);
  /// The weights of a layer (-1: those outside the layers) leave memory.
  void release_weights(std::int32_t layer) const;
  std::filesystem::path soft_file() const;
  /// Every picture through the tower into soft_.
  Status encode_images();
  /// Brings the soft tokens of a planned batch to where its chunks look for them, then embeds it.
  void embed(const StepBatch& batch, Mat hidden, Mat per_layer);
  std::filesystem::path file(int which) const;
  std::size_t row_bytes() const;
  Status allocate();
  /// Opens (or finds) the sequences of a batch in `cache` and plans it.
  Status plan(StepBatch& batch, KvCache& cache, bool keep_open);
  void close(StepBatch& batch, KvCache& cache);
  Result<std::unique_ptr<KvCache>> layer_cache(std::int32_t layer);

  const Checkpoint& checkpoint_;
  Model& model_;
  VisionTower* tower_ = nullptr;
  std::span<const TokenSample> samples_;
  std::filesystem::path folder_;
  std::uint64_t hidden_bytes_ = 0;
  std::int64_t tokens_ = 0;
  std::int32_t layer_ = 0;
  int current_ = 0;  ///< which file holds the input of layer_
  HiddenStates states_[2];
  HiddenStates soft_;         ///< the soft tokens of all pictures, in order
  std::uint64_t n_soft_ = 0;  ///< rows of soft_
  std::vector<StepBatch> batches_;
  std::vector<bool> is_kv_source_;      ///< [layers] read by another layer
  std::unique_ptr<KvCache> shared_kv_;  ///< of those layers, every sample; null when there are none
  std::vector<CacheSeq> shared_seqs_;   ///< [samples]
  Buffer hidden_buffer_, per_layer_buffer_, soft_buffer_;
  Step step_;
};

}  // namespace gem8
