#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "foundation/result.h"
#include "kernels/cost.h"
#include "kernels/ops.h"
#include "model/batch.h"
#include "model/kv_cache.h"
#include "model/observer.h"

namespace gem8 {

class Checkpoint;
struct ModelConfig;
struct ModelWeights;
struct Workspace;

struct ModelOptions {
  std::int64_t max_batch_tokens = 2048;  ///< tokens of one step; workspaces are planned for it
  /// Multiply embeddings by sqrt(hidden) itself. The model multiplies by its bfloat16 rounding (and
  /// so does gem8 in every arithmetic); the reference implementation run in float32 leaves the
  /// rounding out. For comparing with such runs only.
  bool unrounded_embedding_scale = false;
};

/// What the layers of one step share: a checked Batch with its rows, positions, pages and image
/// blocks. Made by Model::plan(), valid until the cache changes; reuse one object and planning
/// allocates nothing.
struct Step {
  void reserve(std::int64_t max_tokens);
  void clear();

  std::int64_t tokens = 0;
  KvCache* cache = nullptr;
  std::vector<TokenId> lookup;          ///< [tokens] ids to look up: placeholders replaced by pad
  std::vector<std::int32_t> positions;  ///< [tokens]
  std::vector<SequenceRows> sliding;    ///< [sequences]
  std::vector<SequenceRows> full;       ///< [sequences]
  std::vector<ImageBlock> blocks;
  std::vector<std::int32_t>
      soft_rows;                      ///< rows that soft tokens replace, in the order of the batch
  std::vector<std::uint8_t> covered;  ///< [tokens] 1 where a soft token replaces the embedding
  std::vector<std::uint8_t>
      ends_in_block;  ///< [sequences] 1 where the chunk's last token is one of an image block
  std::vector<std::int32_t> logit_rows;  ///< rows of the batch that want logits
};

/// The text decoder of a Gemma 4 checkpoint, bound to its weights.
///
/// The weights are those of the mapped file; the model keeps the checkpoint alive. forward() runs
/// whole steps. The parts it is made of (plan, embed, layer, head) are public for callers that go
/// through a model layer by layer: all samples through layer i, then all through layer i + 1. One
/// thread at a time.
class Model {
 public:
  /// Finds and checks every tensor the configuration asks for. Errors: kNotFound names a missing
  /// tensor; kCorrupt one of another shape ("tensor 'x': shape [4, 8], config wants [8, 8]");
  /// kUnsupported a dtype or quantisation gem8 does not run.
  static Result<std::unique_ptr<Model>> load(std::shared_ptr<const Checkpoint> checkpoint, Ops& ops,
                                             const ModelOptions& options = {});
  ~Model();

  const ModelConfig& config() const;
  Ops& ops() const { return *ops_; }
  std::int64_t hidden() const;
  std::int64_t vocab() const;
  std::int64_t layers() const;
  std::int64_t max_batch_tokens() const { return max_batch_tokens_; }
  /// What a step of so many tokens costs at least, without attention, for rooflines.
  /// `distinct_experts`: that some token chose, counted over all layers.
  Cost step_cost(std::int64_t tokens, std::int64_t logit_rows, std::int64_t distinct_experts) const;

  /// One step. Plans it (which reserves cache pages where the caller has not), runs it, advances
  /// the cache. `logits`: F32 [batch.logit_rows(), vocab] on the ops' device, after the soft cap.
  /// Errors are those of plan(); nothing has changed then.
  Status forward(const Batch& batch, KvCache& cache, Mat logits, Observer* observer = nullptr);

  // --- the parts of a step
  // -------------------------------------------------------------------------------------------------------

  /// Checks the batch against model and cache and reserves its pages. Errors: kInvalidArgument
  /// (empty chunk, id outside the vocabulary, position that is not the cache's length, too many
  /// tokens, an image block cut by the end of a chunk, a soft token where no placeholder is),
  /// kExhausted (pages).
  Status plan(const Batch& batch, KvCache& cache, Step& step) const;

  /// hidden [tokens, hidden] := the scaled embeddings with soft tokens inserted. per_layer [tokens,
  /// per_layer_width()] := the input of every layer's gate; ignored by models without one.
  void embed(const Batch& batch, const Step& step, Mat hidden, Mat per_layer);
  /// Width of `per_layer` (layers * width per layer), 0 for most models.
  std::int64_t per_layer_width() const;

  /// hidden := layer i of hidden, in place. Writes keys and values of the step into the cache; does
  /// not advance it.
  void layer(std::int32_t i, const Step& step, Mat hidden, ConstMat per_layer,
             Observer* observer = nullptr);

  /// Final norm, head and soft cap of the rows that want logits.
  void head(const Step& step, ConstMat hidden, Mat logits, Observer* observer = nullptr);

 private:
  Model();
  /// Attention of layer i up to the input of its output projection.
  Mat attention(std::int32_t i, const Step& step, ConstMat x);
  /// block := norm(block) + norm(experts of x).
  void add_experts(std::int32_t i, ConstMat x, Mat block, Observer* observer);

  Ops* ops_ = nullptr;
  std::shared_ptr<const Checkpoint> checkpoint_;
  std::unique_ptr<ModelWeights> weights_;
  std::unique_ptr<Workspace> workspace_;
  std::int64_t max_batch_tokens_ = 0;
  bool unrounded_embedding_scale_ = false;
  Step step_;  ///< of forward()
};

}  // namespace gem8
