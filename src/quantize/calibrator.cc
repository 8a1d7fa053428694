#include "quantize/calibrator.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "formats/model_config.h"

namespace gem8 {

/// Samples that go through the model in one step.
struct Calibrator::StepBatch {
  std::size_t first_sample = 0;
  std::size_t n_samples = 0;
  std::uint64_t first_row = 0;
  std::uint64_t n_rows = 0;
  std::uint64_t first_soft = 0, n_soft = 0;  ///< rows of soft_
  std::vector<SoftTokens> soft;              ///< that the chunks look into
  std::vector<SequenceChunk> chunks;
};

namespace {

std::int64_t pages_of(std::size_t n_tokens) {
  return (static_cast<std::int64_t>(n_tokens) + KvLayer::kPageTokens - 1) / KvLayer::kPageTokens;
}

std::optional<InputSite> site_of(Tap tap) {
  switch (tap) {
    case Tap::kAttentionIn:
      return InputSite::kAttention;
    case Tap::kAttentionOutIn:
      return InputSite::kAttentionOut;
    case Tap::kMlpIn:
      return InputSite::kMlp;
    case Tap::kMlpDownIn:
      return InputSite::kMlpDown;
    case Tap::kExpertsIn:
      return InputSite::kExperts;
    default:
      return std::nullopt;
  }
}

}  // namespace

/// Folds what one layer shows into its statistics.
class Calibrator::Watcher : public Observer {
 public:
  Watcher(Ops& ops, LayerStatistics& statistics) : ops_(ops), statistics_(statistics) {}

  void tensor(Tap tap, std::int32_t, ConstMat x) override {
    const auto site = site_of(tap);
    if (!site) return;
    float& amax = statistics_.amax[static_cast<std::size_t>(*site)];
    amax = std::max(amax, ops_.absmax(x));
  }

  void routing(std::int32_t, const Routing& chosen, ConstMat) override {
    experts_.resize(static_cast<std::size_t>(chosen.tokens * chosen.top_k));
    ops_.device().download(chosen.experts, std::as_writable_bytes(std::span(experts_)));
    for (const std::int32_t expert : experts_) {
      statistics_.tokens_per_expert[static_cast<std::size_t>(expert)] += 1;
    }
  }

  ExpertObserver experts(std::int32_t) override {
    return {.down_input_amax = statistics_.expert_down_amax};
  }

 private:
  Ops& ops_;
  LayerStatistics& statistics_;
  std::vector<std::int32_t> experts_;
};

Json LayerStatistics::to_json() const {
  Json maxima = Json::object();
  for (std::size_t site = 0; site < kInputSites; ++site) {
    const bool expert_site = site >= static_cast<std::size_t>(InputSite::kExperts);
    if (expert_site && tokens_per_expert.empty()) continue;
    maxima.set(input_site_name(static_cast<InputSite>(site)), static_cast<double>(amax[site]));
  }
  Json tokens = Json::array(), down = Json::array();
  for (std::size_t e = 0; e < tokens_per_expert.size(); ++e) {
    tokens.push_back(tokens_per_expert[e]);
    down.push_back(tokens_per_expert[e] > 0 ? Json(static_cast<double>(expert_down_amax[e]))
                                            : Json());
  }
  return Json::object({{"amax", std::move(maxima)},
                       {"tokens_per_expert", std::move(tokens)},
                       {"moe_down_in_per_expert", std::move(down)}});
}

Result<LayerStatistics> LayerStatistics::from_json(const Json& value) {
  const Json* const maxima = value.find("amax");
  const Json* const tokens = value.find("tokens_per_expert");
  const Json* const down = value.find("moe_down_in_per_expert");
  const auto unreadable = [] { return fail(Code::kCorrupt, "layer statistics lack a member"); };
  if (maxima == nullptr || tokens == nullptr || down == nullptr || !maxima->is_object() ||
      !tokens->is_array() || !down->is_array() ||
      tokens->as_array().size() != down->as_array().size()) {
    return unreadable();
  }
  LayerStatistics result;
  for (std::size_t site = 0; site < kInputSites; ++site) {
    const Json* const amax = maxima->find(input_site_name(static_cast<InputSite>(site)));
    if (amax != nullptr && !amax->is_number()) return unreadable();
    if (amax != nullptr) result.amax[site] = static_cast<float>(amax->as_double());
  }
  for (std::size_t e = 0; e < tokens->as_array().size(); ++e) {
    const Json& count = tokens->as_array()[e];
    const Json& largest = down->as_array()[e];
    if (!count.is_int() || !(largest.is_null() || largest.is_number())) return unreadable();
    result.tokens_per_expert.push_back(count.as_int());
    result.expert_down_amax.push_back(largest.is_null() ? 0.0f
                                                        : static_cast<float>(largest.as_double()));
  }
  return result;
}

Calibrator::Calibrator(const Checkpoint& checkpoint, SeeingModel seeing,
                       std::span<const TokenSample> samples, std::filesystem::path folder,
                       std::uint64_t hidden_bytes)
    : checkpoint_(checkpoint),
      model_(*seeing.model),
      tower_(seeing.tower),
      samples_(samples),
      folder_(std::move(folder)),
      hidden_bytes_(hidden_bytes) {}

Calibrator::~Calibrator() = default;

Result<std::unique_ptr<Calibrator>> Calibrator::create(const Checkpoint& checkpoint,
                                                       SeeingModel seeing,
                                                       std::span<const TokenSample> samples,
                                                       const std::filesystem::path& folder,
                                                       std::uint64_t hidden_bytes) {
  std::unique_ptr<Calibrator> result(
      new Calibrator(checkpoint, seeing, samples, folder, hidden_bytes));
  GEM8_RETURN_IF_ERROR(result->allocate());
  return result;
}

void Calibrator::release_weights(std::int32_t layer) const {
  const std::string prefix = checkpoint_.text_prefix() + "layers.";
  const std::string own = fmt::format("{}{}.", prefix, layer);
  for (const CheckpointTensor& tensor : checkpoint_.tensors()) {
    const std::string& name = tensor.info->name;
    if (layer < 0 ? !name.starts_with(prefix) : name.starts_with(own)) {
      checkpoint_.release(tensor.info->bytes);
    }
  }
}

Status Calibrator::allocate() {
  const TextConfig& text = model_.config().text;
  for (std::size_t s = 0; s < samples_.size(); ++s) {
    const std::size_t n = samples_[s].tokens.size();
    if (n == 0 || static_cast<std::int64_t>(n) > model_.max_batch_tokens()) {
      return fail(Code::kInvalidArgument, "calibration sample {}: {} tokens, wanted 1 to {}", s, n,
                  model_.max_batch_tokens());
    }
    if (batches_.empty() ||
        static_cast<std::int64_t>(batches_.back().n_rows + n) > model_.max_batch_tokens()) {
      batches_.push_back({.first_sample = s,
                          .first_row = static_cast<std::uint64_t>(tokens_),
                          .first_soft = n_soft_});
    }
    for (const SampleImage& image : samples_[s].images) {
      batches_.back().n_soft += static_cast<std::uint64_t>(image.n_tokens);
      n_soft_ += static_cast<std::uint64_t>(image.n_tokens);
    }
    batches_.back().n_samples += 1;
    batches_.back().n_rows += n;
    tokens_ += static_cast<std::int64_t>(n);
  }
  if (batches_.empty()) return fail(Code::kInvalidArgument, "no calibration sample");
  if (n_soft_ > 0 && tower_ == nullptr) {
    return fail(Code::kInvalidArgument, "calibration samples show pictures, the model sees none");
  }

  Device& device = model_.ops().device();
  const std::size_t activation = dtype_bytes(model_.ops().activation_dtype());
  const auto rows = static_cast<std::size_t>(model_.max_batch_tokens());
  GEM8_TRY(hidden_buffer_, device.allocate(rows * row_bytes()));
  const auto per_layer = static_cast<std::size_t>(model_.per_layer_width());
  if (per_layer > 0) {
    GEM8_TRY(per_layer_buffer_, device.allocate(rows * per_layer * activation));
  }
  const auto most_soft = std::ranges::max(batches_, {}, &StepBatch::n_soft).n_soft;
  if (most_soft > 0) {
    GEM8_TRY(soft_buffer_, device.allocate(static_cast<std::size_t>(most_soft) * row_bytes()));
  }

  is_kv_source_.assign(static_cast<std::size_t>(model_.layers()), false);
  std::vector<std::int32_t> sources;
  for (const LayerConfig& layer : text.layers) {
    if (!layer.kv_shared || is_kv_source_[static_cast<std::size_t>(layer.kv_source)]) continue;
    is_kv_source_[static_cast<std::size_t>(layer.kv_source)] = true;
    sources.push_back(layer.kv_source);
  }
  if (sources.empty()) return {};
  std::int64_t pages = 0;
  for (const TokenSample& sample : samples_) pages += pages_of(sample.tokens.size());
  GEM8_TRY(shared_kv_,
           KvCache::create(text, model_.ops(),
                           {.sliding_pages = pages, .full_pages = pages, .layers = sources}));
  for (std::size_t s = 0; s < samples_.size(); ++s) shared_seqs_.push_back(shared_kv_->open());
  return {};
}

std::size_t Calibrator::row_bytes() const {
  return static_cast<std::size_t>(model_.hidden()) * dtype_bytes(model_.ops().activation_dtype());
}

std::filesystem::path Calibrator::file(int which) const {
  return folder_ / fmt::format("hidden-states.{}", which);
}

Result<std::unique_ptr<KvCache>> Calibrator::layer_cache(std::int32_t layer) {
  std::int64_t pages = 1;
  for (const StepBatch& batch : batches_) {
    std::int64_t of_batch = 0;
    for (std::size_t i = 0; i < batch.n_samples; ++i) {
      of_batch += pages_of(samples_[batch.first_sample + i].tokens.size());
    }
    pages = std::max(pages, of_batch);
  }
  const std::int32_t layers[] = {layer};
  return KvCache::create(model_.config().text, model_.ops(),
                         {.sliding_pages = pages, .full_pages = pages, .layers = layers});
}

Status Calibrator::plan(StepBatch& batch, KvCache& cache, bool keep_open) {
  batch.chunks.clear();
  batch.soft.clear();
  std::size_t n_images = 0;
  for (std::size_t i = 0; i < batch.n_samples; ++i) {
    n_images += samples_[batch.first_sample + i].images.size();
  }
  batch.soft.reserve(n_images);  // the chunks look into it
  const DType dtype = model_.ops().activation_dtype();
  std::size_t soft_row = 0;
  for (std::size_t i = 0; i < batch.n_samples; ++i) {
    const std::size_t sample = batch.first_sample + i;
    const std::size_t first_image = batch.soft.size();
    for (const SampleImage& image : samples_[sample].images) {
      auto* const rows = static_cast<std::byte*>(soft_buffer_.address()) + soft_row * row_bytes();
      batch.soft.push_back(
          {image.position, {rows, dtype, image.n_tokens, model_.hidden(), model_.hidden()}});
      soft_row += static_cast<std::size_t>(image.n_tokens);
    }
    batch.chunks.push_back({.seq = keep_open ? shared_seqs_[sample] : cache.open(),
                            .tokens = samples_[sample].tokens,
                            .soft = std::span(batch.soft).subspan(first_image),
                            .logits = Logits::kNone});
  }
  return model_.plan({.chunks = batch.chunks}, cache, step_);
}

void Calibrator::close(StepBatch& batch, KvCache& cache) {
  for (const SequenceChunk& chunk : batch.chunks) cache.close(chunk.seq);
}

std::filesystem::path Calibrator::soft_file() const {
  return folder_ / "soft-tokens";
}

Status Calibrator::encode_images() {
  soft_ = {};
  if (n_soft_ == 0) return {};
  GEM8_TRY(soft_, HiddenStates::create(soft_file(), n_soft_, row_bytes()));
  Ops& ops = model_.ops();
  const std::size_t element = dtype_bytes(ops.activation_dtype());
  std::uint64_t row = 0;
  for (const TokenSample& sample : samples_) {
    for (const SampleImage& image : sample.images) {
      GEM8_TRY(const SoftTokenMatrix encoded, encode_image(*tower_, image));
      for (std::int64_t i = 0; i < image.n_tokens; ++i, ++row) {
        const auto* const from = static_cast<const std::byte*>(encoded.rows.data) +
                                 static_cast<std::size_t>(i * encoded.rows.stride) * element;
        ops.device().download(from, soft_.rows(row, 1));
      }
      soft_.release(0, row);
    }
  }
  return soft_.flush();
}

void Calibrator::embed(const StepBatch& batch, Mat hidden, Mat per_layer) {
  if (batch.n_soft > 0) {
    model_.ops().device().upload(soft_buffer_.address(),
                                 soft_.rows(batch.first_soft, batch.n_soft));
  }
  model_.embed({.chunks = batch.chunks}, step_, hidden, per_layer);
  release_weights(-1);  // a few rows each of tables that are larger than a layer
}

Status Calibrator::start() {
  layer_ = 0;
  current_ = 0;
  states_[0] = {};
  states_[1] = {};
  for (int which : {0, 1}) {
    GEM8_TRY(states_[which],
             HiddenStates::create(file(which), static_cast<std::uint64_t>(tokens_), row_bytes()));
  }
  GEM8_RETURN_IF_ERROR(encode_images());
  GEM8_TRY(const auto cache, layer_cache(0));
  Ops& ops = model_.ops();
  for (StepBatch& batch : batches_) {
    GEM8_RETURN_IF_ERROR(plan(batch, *cache, false));
    const auto rows = static_cast<std::int64_t>(batch.n_rows);
    const Mat hidden{hidden_buffer_.address(), ops.activation_dtype(), rows, model_.hidden(),
                     model_.hidden()};
    const std::int64_t width = model_.per_layer_width();
    const Mat per_layer{per_layer_buffer_.address(), ops.activation_dtype(), rows, width, width};
    embed(batch, hidden, per_layer);
    ops.device().download(hidden.data, states_[0].rows(batch.first_row, batch.n_rows));
    if (2 * states_[0].bytes() > hidden_bytes_) states_[0].release(batch.first_row, batch.n_rows);
    close(batch, *cache);
  }
  return states_[0].flush();
}

std::int32_t Calibrator::last_resumable_layer() const {
  const auto first = std::ranges::find(is_kv_source_, true);
  return static_cast<std::int32_t>(first - is_kv_source_.begin());
}

Status Calibrator::resume(std::int32_t finished_layers) {
  if (finished_layers > last_resumable_layer()) {
    return fail(Code::kNotFound,
                "layers share keys and values that an interrupted run does not keep");
  }
  current_ = finished_layers % 2;
  for (int which : {0, 1}) {
    GEM8_TRY(states_[which],
             HiddenStates::open(file(which), static_cast<std::uint64_t>(tokens_), row_bytes()));
  }
  if (n_soft_ > 0) {
    GEM8_TRY(soft_, HiddenStates::open(soft_file(), n_soft_, row_bytes()));
  }
  layer_ = finished_layers;
  return {};
}

Result<LayerStatistics> Calibrator::next_layer() {
  const TextConfig& text = model_.config().text;
  const auto i = static_cast<std::size_t>(layer_);
  LayerStatistics statistics;
  statistics.tokens_per_expert.resize(static_cast<std::size_t>(text.n_experts));
  statistics.expert_down_amax.resize(static_cast<std::size_t>(text.n_experts));

  const bool shared = is_kv_source_[i] || text.layers[i].kv_shared;
  std::unique_ptr<KvCache> own;
  if (!shared) {
    GEM8_TRY(own, layer_cache(layer_));
  }
  KvCache& cache = shared ? *shared_kv_ : *own;

  Ops& ops = model_.ops();
  Watcher watcher(ops, statistics);
  HiddenStates& from = states_[current_];
  HiddenStates& to = states_[1 - current_];
  const bool give_back = 2 * from.bytes() > hidden_bytes_;
  const std::int64_t width = model_.per_layer_width();
  for (StepBatch& batch : batches_) {
    GEM8_RETURN_IF_ERROR(plan(batch, cache, shared));
    const auto rows = static_cast<std::int64_t>(batch.n_rows);
    const Mat hidden{hidden_buffer_.address(), ops.activation_dtype(), rows, model_.hidden(),
                     model_.hidden()};
    const Mat per_layer{per_layer_buffer_.address(), ops.activation_dtype(), rows, width, width};
    // Recomputed rather than kept: all layers' inputs of a token are many times its hidden state.
    if (width > 0) embed(batch, hidden, per_layer);
    ops.device().upload(hidden.data, from.rows(batch.first_row, batch.n_rows));
    model_.layer(layer_, step_, hidden, per_layer, &watcher);
    ops.device().download(hidden.data, to.rows(batch.first_row, batch.n_rows));
    if (!shared) close(batch, cache);
    if (give_back) {
      from.release(batch.first_row, batch.n_rows);
      to.release(batch.first_row, batch.n_rows);
    }
  }
  for (const float amax : statistics.expert_down_amax) {
    float& largest = statistics.amax[static_cast<std::size_t>(InputSite::kExpertsDown)];
    largest = amax > largest || std::isnan(amax) ? amax : largest;
  }
  for (std::size_t site = 0; site < kInputSites; ++site) {
    if (!std::isfinite(statistics.amax[site])) {
      return fail(Code::kCorrupt, "layer {}: calibration met an infinite or NaN value at {}",
                  layer_, input_site_name(static_cast<InputSite>(site)));
    }
  }
  release_weights(layer_);
  GEM8_RETURN_IF_ERROR(to.flush());
  current_ = 1 - current_;
  layer_ += 1;
  return statistics;
}

void Calibrator::remove_files() {
  std::error_code ignored;
  for (int which : {0, 1}) {
    states_[which] = {};
    std::filesystem::remove(file(which), ignored);
  }
  soft_ = {};
  std::filesystem::remove(soft_file(), ignored);
}

}  // namespace gem8
