#include "quantize/eval/forced_run.h"

#include <algorithm>

#include "formats/model_config.h"

namespace gem8::eval {

namespace {

constexpr std::int64_t kChunk =
    64;  ///< tokens of a step: 64 rows of logits are 67 MB with the largest vocabulary

/// A device matrix of the activation type as float32 on the host.
void download_floats(Device& device, ConstMat x, std::vector<float>& out) {
  out.resize(static_cast<std::size_t>(x.rows * x.cols));
  const std::size_t size = dtype_bytes(x.dtype);
  std::vector<std::byte> row(static_cast<std::size_t>(x.cols) * size);
  for (std::int64_t r = 0; r < x.rows; ++r) {
    float* const to = out.data() + r * x.cols;
    const auto* const from =
        static_cast<const std::byte*>(x.data) + static_cast<std::size_t>(r * x.stride) * size;
    if (x.dtype == DType::kF32) {
      device.download(from,
                      std::as_writable_bytes(std::span(to, static_cast<std::size_t>(x.cols))));
      continue;
    }
    device.download(from, row);
    for (std::int64_t c = 0; c < x.cols; ++c) {
      BF16 value;
      std::memcpy(&value, row.data() + 2 * c, 2);
      to[c] = static_cast<float>(value);
    }
  }
}

}  // namespace

/// Keeps the outputs of all layers and the experts they chose.
class ForcedRun::Recorder : public Observer {
 public:
  explicit Recorder(Side& side) : side_(side) {}

  void tensor(Tap tap, std::int32_t layer, ConstMat x) override {
    if (tap != Tap::kLayerOut) return;
    download_floats(side_.model->ops().device(), x, side_.outputs[static_cast<std::size_t>(layer)]);
  }

  void routing(std::int32_t layer, const Routing& chosen, ConstMat) override {
    auto& experts = side_.experts[static_cast<std::size_t>(layer)];
    experts.resize(static_cast<std::size_t>(chosen.tokens * chosen.top_k));
    side_.model->ops().device().download(chosen.experts,
                                         std::as_writable_bytes(std::span(experts)));
  }

 private:
  Side& side_;
};

Result<ForcedRun::Side> ForcedRun::make_side(SeeingModel seeing, std::int64_t longest,
                                             std::int64_t largest_image) {
  Model& model = *seeing.model;
  Side side{.model = &model, .tower = seeing.tower};
  const std::int64_t largest_step = std::max(kChunk, largest_image);
  const TextConfig& text = model.config().text;
  const KvCacheCost cost = kv_cache_cost(text, model.ops().activation_dtype());
  GEM8_TRY(side.cache, KvCache::create(text, model.ops(),
                                       {.sliding_pages = cost.sliding_pages(longest, largest_step),
                                        .full_pages = cost.full_pages(longest)}));
  const auto n_logits = static_cast<std::size_t>(kChunk * model.vocab());
  GEM8_TRY(side.logits, model.ops().device().allocate(n_logits * sizeof(float)));
  side.host_logits.resize(n_logits);
  side.outputs.resize(static_cast<std::size_t>(model.layers()));
  side.experts.resize(static_cast<std::size_t>(model.layers()));
  return side;
}

Result<ForcedRun> ForcedRun::create(SeeingModel source, SeeingModel model, std::int64_t longest,
                                    std::int64_t largest_image, ThreadPool& pool) {
  ForcedRun run;
  run.pool_ = &pool;
  GEM8_TRY(Side side, make_side(model, longest, largest_image));
  run.sides_.push_back(std::move(side));
  if (source.model == nullptr) return run;
  const Model &a = *source.model, &b = *model.model;
  if (a.vocab() != b.vocab() || a.layers() != b.layers() || a.hidden() != b.hidden()) {
    return fail(Code::kInvalidArgument,
                "the models differ: vocabulary {} and {}, layers {} and {}, hidden size {} and {}",
                a.vocab(), b.vocab(), a.layers(), b.layers(), a.hidden(), b.hidden());
  }
  GEM8_TRY(Side other, make_side(source, longest, largest_image));
  run.sides_.push_back(std::move(other));
  return run;
}

Status ForcedRun::step(Side& side, CacheSeq seq, const TokenSample& sample,
                       const SamplePiece& piece) {
  SequenceChunk chunk{.seq = seq,
                      .tokens = std::span(sample.tokens).subspan(piece.first, piece.count),
                      .first_position = static_cast<std::int64_t>(piece.first),
                      .logits = Logits::kAll};
  SoftTokenMatrix encoded;
  SoftTokens soft;
  if (piece.image != nullptr) {
    if (side.tower == nullptr) {
      return fail(Code::kInvalidArgument, "a sample shows a picture, the model sees none");
    }
    GEM8_TRY(encoded, encode_image(*side.tower, *piece.image));
    soft.rows = encoded.rows;
    chunk.soft = std::span(&soft, 1);
    chunk.logits = Logits::kLast;
  }
  const Batch batch{.chunks = std::span(&chunk, 1)};
  const std::int64_t rows = batch.logit_rows();
  const std::int64_t vocab = side.model->vocab();
  const Mat logits{side.logits.address(), DType::kF32, rows, vocab, vocab};
  Recorder recorder(side);
  GEM8_RETURN_IF_ERROR(side.model->forward(batch, *side.cache, logits, &recorder));
  side.model->ops().device().download(
      logits.data, std::as_writable_bytes(
                       std::span(side.host_logits).first(static_cast<std::size_t>(rows * vocab))));
  return {};
}

void ForcedRun::compare_rows(const TokenSample& sample, const SamplePiece& piece,
                             Totals& totals) const {
  const bool has_source = sides_.size() > 1;
  const auto vocab = static_cast<std::size_t>(sides_[0].model->vocab());
  // The token that the first row with logits predicts, and how many rows predict one.
  const std::size_t end = piece.first + piece.count;
  const std::size_t next = piece.image != nullptr ? end : piece.first + 1;
  std::size_t n_rows = end + 1 - next;
  const bool before_image = std::ranges::any_of(sample.images, [end](const SampleImage& image) {
    return image.position == static_cast<std::int64_t>(end);
  });
  if (before_image || end == sample.tokens.size()) n_rows -= 1;
  std::vector<Row> rows(n_rows);
  pool_->parallel_for(rows.size(), [&](std::size_t r, std::size_t) {
    const auto row_of = [&](const Side& side) {
      return std::span(side.host_logits).subspan(r * vocab, vocab);
    };
    rows[r] = compare_row(has_source ? row_of(sides_[1]) : std::span<const float>(),
                          row_of(sides_[0]), static_cast<std::size_t>(sample.tokens[next + r]));
  });
  for (const Row& row : rows) totals.add(row, has_source);
}

void ForcedRun::compare_layers(std::size_t layer, LayerSums& sums) const {
  const Side& model = sides_[0];
  const Side& source = sides_[1];
  const auto& ours = model.outputs[layer];
  const auto& theirs = source.outputs[layer];
  for (std::size_t i = 0; i < theirs.size(); ++i) {
    const double difference = static_cast<double>(ours[i]) - static_cast<double>(theirs[i]);
    sums.error_square += difference * difference;
    sums.source_square += static_cast<double>(theirs[i]) * static_cast<double>(theirs[i]);
  }
  const auto top_k = static_cast<std::size_t>(model.model->config().text.top_k_experts);
  const auto& chosen = model.experts[layer];
  const auto& wanted = source.experts[layer];
  for (std::size_t at = 0; top_k > 0 && at + top_k <= chosen.size(); at += top_k) {
    const auto begin = wanted.begin() + static_cast<std::ptrdiff_t>(at);
    const auto end = begin + static_cast<std::ptrdiff_t>(top_k);
    for (std::size_t slot = 0; slot < top_k; ++slot) {
      sums.changed += std::find(begin, end, chosen[at + slot]) == end;
    }
    sums.choices += static_cast<std::int64_t>(top_k);
  }
}

Result<Totals> ForcedRun::run(const TokenSample& sample) {
  Totals totals{.samples = 1};
  totals.layers.resize(static_cast<std::size_t>(sides_[0].model->layers()));
  std::vector<CacheSeq> seqs;
  for (Side& side : sides_) seqs.push_back(side.cache->open());
  Status status;
  for (const SamplePiece& piece : pieces_of(sample, static_cast<std::size_t>(kChunk))) {
    for (std::size_t s = 0; s < sides_.size() && status; ++s) {
      status = step(sides_[s], seqs[s], sample, piece);
    }
    if (!status) break;
    compare_rows(sample, piece, totals);
    if (sides_.size() > 1) {
      pool_->parallel_for(totals.layers.size(), [&](std::size_t layer, std::size_t) {
        compare_layers(layer, totals.layers[layer]);
      });
    }
  }
  for (std::size_t s = 0; s < sides_.size(); ++s) sides_[s].cache->close(seqs[s]);
  if (!status) return std::unexpected(std::move(status).error());
  return totals;
}

}  // namespace gem8::eval
