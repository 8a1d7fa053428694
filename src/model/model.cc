#include "model/model.h"

#include <cmath>
#include <utility>

#include "formats/checkpoint.h"
#include "foundation/check.h"
#include "model/weights.h"
#include "model/workspace.h"

namespace gem8 {

Model::Model() = default;
Model::~Model() = default;

Result<std::unique_ptr<Model>> Model::load(std::shared_ptr<const Checkpoint> checkpoint, Ops& ops,
                                           const ModelOptions& options) {
  if (options.max_batch_tokens < 1) {
    return fail(Code::kInvalidArgument, "steps of {} tokens, want 1 or more",
                options.max_batch_tokens);
  }
  if (checkpoint->config().text.bidirectional == BidirectionalAttention::kAll) {
    return fail(Code::kUnsupported,
                "use_bidirectional_attention is \"all\", a decoder wants null or \"vision\"");
  }
  std::unique_ptr<Model> model(new Model());
  model->ops_ = &ops;
  model->max_batch_tokens_ = options.max_batch_tokens;
  model->unrounded_embedding_scale_ = options.unrounded_embedding_scale;
  GEM8_TRY(model->weights_, bind_weights(*checkpoint, ops.device()));
  GEM8_TRY(Workspace workspace,
           Workspace::create(checkpoint->config().text, ops, options.max_batch_tokens));
  model->workspace_ = std::make_unique<Workspace>(std::move(workspace));
  model->step_.reserve(options.max_batch_tokens);
  model->checkpoint_ = std::move(checkpoint);
  return model;
}

const ModelConfig& Model::config() const {
  return checkpoint_->config();
}
std::int64_t Model::hidden() const {
  return config().text.hidden;
}
std::int64_t Model::vocab() const {
  return config().text.vocab;
}
std::int64_t Model::layers() const {
  return config().text.n_layers;
}
Cost Model::step_cost(std::int64_t tokens, std::int64_t logit_rows,
                      std::int64_t distinct_experts) const {
  return weights_cost(*weights_,
                      {tokens, logit_rows, config().text.top_k_experts, distinct_experts});
}
std::int64_t Model::per_layer_width() const {
  return std::int64_t{config().text.n_layers} * config().text.per_layer_hidden;
}

Status Model::forward(const Batch& batch, KvCache& cache, Mat logits, Observer* observer) {
  const std::int64_t rows = batch.logit_rows();
  if (rows > 0 && (logits.rows != rows || logits.cols != vocab() || logits.dtype != DType::kF32)) {
    return fail(Code::kInvalidArgument, "logits are {} [{}, {}], the step makes F32 [{}, {}]",
                dtype_name(logits.dtype), logits.rows, logits.cols, rows, vocab());
  }
  GEM8_RETURN_IF_ERROR(plan(batch, cache, step_));
  const Mat x = workspace_->hidden.mat(step_.tokens);
  const Mat per_layer = workspace_->per_layer.mat(step_.tokens);
  embed(batch, step_, x, per_layer);
  if (observer != nullptr) {
    observer->tensor(Tap::kEmbeddings, 0, x);
    if (per_layer_width() > 0) observer->tensor(Tap::kPerLayerInputs, 0, per_layer);
  }
  for (std::int32_t i = 0; i < layers(); ++i) layer(i, step_, x, per_layer, observer);
  if (rows > 0) head(step_, x, logits, observer);
  for (std::size_t s = 0; s < batch.chunks.size(); ++s) {
    const SequenceChunk& chunk = batch.chunks[s];
    cache.advance(chunk.seq, static_cast<std::int64_t>(chunk.tokens.size()),
                  step_.ends_in_block[s] != 0);
  }
  return {};
}

namespace {

/// The square root of a width as the reference multiplies by it: rounded to the type of the
/// embedding table (the type the model was trained with), unless asked not to.
float embedding_scale(std::int64_t width, DType table, bool unrounded) {
  const float root = std::sqrt(static_cast<float>(width));
  return table == DType::kBF16 && !unrounded ? round_to_bf16(root) : root;
}

}  // namespace

void Model::embed(const Batch& batch, const Step& step, Mat hidden, Mat per_layer) {
  const TextConfig& c = config().text;
  const float scale = embedding_scale(c.hidden, weights_->embed.dtype, unrounded_embedding_scale_);
  ops_->embed(step.lookup, weights_->embed, scale, hidden);
  std::size_t first = 0;
  for (const SequenceChunk& chunk : batch.chunks) {
    for (const SoftTokens& soft : chunk.soft) {
      const auto rows =
          std::span(step.soft_rows).subspan(first, static_cast<std::size_t>(soft.rows.rows));
      ops_->scatter_rows(soft.rows, rows, hidden);
      first += rows.size();
    }
  }
  if (!c.has_per_layer_embeddings()) return;

  // What the token says plus what its embedding says, for all layers at once.
  const float width_scale = embedding_scale(c.per_layer_hidden, weights_->per_layer_embed.dtype,
                                            unrounded_embedding_scale_);
  ops_->embed(step.lookup, weights_->per_layer_embed, width_scale, per_layer);
  const Mat context = workspace_->per_layer_context.mat(step.tokens);
  const LinearTask task{&weights_->per_layer_projection, context};
  ops_->linear(hidden, {&task, 1});
  ops_->scale(context, static_cast<float>(std::pow(static_cast<double>(c.hidden), -0.5)), context);
  const Mat by_layer =
      workspace_->per_layer_context.mat(step.tokens * c.n_layers, c.per_layer_hidden);
  ops_->rms_norm(by_layer, weights_->per_layer_norm, c.rms_norm_eps, by_layer);
  ops_->add(context, per_layer, static_cast<float>(std::sqrt(0.5)), per_layer);
}

void Model::head(const Step& step, ConstMat hidden, Mat logits, Observer* observer) {
  const TextConfig& c = config().text;
  const auto rows = static_cast<std::int64_t>(step.logit_rows.size());
  GEM8_DCHECK(logits.rows == rows);
  const Mat x = workspace_->normed.mat(rows);
  ops_->gather_rows(hidden, step.logit_rows, x);
  ops_->rms_norm(x, weights_->norm, c.rms_norm_eps, x);
  if (observer != nullptr) observer->tensor(Tap::kFinalNorm, 0, x);
  const LinearTask task{&weights_->head, logits};
  ops_->linear(x, {&task, 1});
  if (c.final_logit_softcapping) ops_->soft_cap(logits, *c.final_logit_softcapping);
  if (observer != nullptr) observer->tensor(Tap::kLogits, 0, logits);
}

}  // namespace gem8
