#include "model/speed/speed.h"

#include <algorithm>
#include <chrono>
#include <random>
#include <set>

#include "kernels/ceilings/ceilings.h"
#include "model/model.h"

namespace gem8 {
namespace {

double median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

/// Which experts a step touches in each layer: what it has to read.
class ExpertCounter : public Observer {
 public:
  explicit ExpertCounter(Device& device) : device_(&device) {}
  void routing(std::int32_t, const Routing& chosen, ConstMat) override {
    std::vector<std::int32_t> experts(static_cast<std::size_t>(chosen.tokens * chosen.top_k));
    device_->download(chosen.experts, std::as_writable_bytes(std::span(experts)));
    distinct += static_cast<std::int64_t>(std::set(experts.begin(), experts.end()).size());
  }
  std::int64_t distinct = 0;  ///< over all layers

 private:
  Device* device_;
};

/// The products of attention when `tokens` go into an empty cache.
double attention_operations(const TextConfig& c, std::int64_t tokens) {
  Cost total;
  for (const LayerConfig& layer : c.layers) {
    const auto n = static_cast<double>(tokens);
    const double reach = layer.full ? n : std::min<double>(n, c.sliding_window);
    const double pairs = (n - reach / 2.0) * reach;  // a triangle, then a band
    total += attention_cost(c.n_heads, {.head_dim = layer.head_dim}, 0.0, pairs);
  }
  return total.operations;
}

class Bench {
 public:
  static Result<std::unique_ptr<Bench>> make(std::shared_ptr<const Checkpoint> checkpoint,
                                             ThreadPool& pool, const SpeedPlan& plan) {
    std::unique_ptr<Bench> bench(new Bench(pool, plan));
    GEM8_TRY(bench->ops_, make_cpu_ops(*bench->device_, pool, {}));
    std::int64_t longest = 1;
    for (const auto* list : {&plan.prompts, &plan.batches}) {
      for (const std::int64_t n : *list) longest = std::max(longest, n);
    }
    bench->max_tokens_ = std::max<std::int64_t>(longest, 512);
    GEM8_TRY(bench->model_, Model::load(std::move(checkpoint), *bench->ops_,
                                        {.max_batch_tokens = bench->max_tokens_}));
    GEM8_TRY(ReadProbe probe, ReadProbe::make(*bench->device_, pool));
    bench->probe_ = std::make_unique<ReadProbe>(std::move(probe));
    return bench;
  }

  Result<DecodeSpeed> decode(std::int64_t batch, std::int64_t depth) {
    const std::int64_t steps_each = 3;
    GEM8_TRY(auto cache, make_cache(batch, depth + (plan_->rounds + 2) * steps_each + 1));
    std::vector<CacheSeq> sequences;
    for (std::int64_t i = 0; i < batch; ++i) sequences.push_back(cache->open());
    for (const CacheSeq seq : sequences) GEM8_RETURN_IF_ERROR(fill(*cache, seq, depth));

    ExpertCounter counter(*device_);
    GEM8_RETURN_IF_ERROR(step(*cache, sequences, &counter));
    const double step_bytes = model_->step_cost(batch, batch, counter.distinct).bytes;

    std::vector<double> rates, bandwidths, shares;
    for (int round = 0; round < plan_->rounds; ++round) {
      const double ceiling = probe_->run_once();
      const auto start = std::chrono::steady_clock::now();
      for (std::int64_t i = 0; i < steps_each; ++i)
        GEM8_RETURN_IF_ERROR(step(*cache, sequences, nullptr));
      const double seconds =
          std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count() /
          static_cast<double>(steps_each);
      reads_.push_back(ceiling);
      rates.push_back(static_cast<double>(batch) / seconds);
      bandwidths.push_back(step_bytes / seconds * 1e-9);
      shares.push_back(bandwidths.back() / ceiling);
    }
    return DecodeSpeed{batch,
                       depth,
                       median(rates),
                       step_bytes / static_cast<double>(batch),
                       median(bandwidths),
                       median(shares)};
  }

  Result<PrefillSpeed> prefill(std::int64_t tokens) {
    const double operations = model_->step_cost(tokens, 1, 0).operations +
                              attention_operations(model_->config().text, tokens);
    std::vector<double> rates, speeds, shares;
    for (int round = 0; round <= plan_->rounds; ++round) {
      GEM8_TRY(auto cache, make_cache(1, tokens));
      const CacheSeq seq = cache->open();
      const double ceiling = bf16_peak_gflops(*pool_);
      const auto start = std::chrono::steady_clock::now();
      GEM8_RETURN_IF_ERROR(fill(*cache, seq, tokens));
      const double seconds =
          std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
      if (round == 0) continue;  // grows the kernels' workspaces
      peaks_.push_back(ceiling);
      rates.push_back(static_cast<double>(tokens) / seconds);
      speeds.push_back(operations / seconds * 1e-9);
      shares.push_back(speeds.back() / ceiling);
    }
    return PrefillSpeed{tokens, median(rates), median(speeds), median(shares)};
  }

  double read_gbps() const { return reads_.empty() ? 0.0 : median(reads_); }
  double bf16_gflops() const { return peaks_.empty() ? 0.0 : median(peaks_); }

 private:
  Bench(ThreadPool& pool, const SpeedPlan& plan)
      : pool_(&pool), plan_(&plan), device_(make_cpu_device()) {}

  Result<std::unique_ptr<KvCache>> make_cache(std::int64_t sequences, std::int64_t length) {
    const KvCacheCost cost = kv_cache_cost(model_->config().text, ops_->activation_dtype());
    return KvCache::create(
        model_->config().text, *ops_,
        {.sliding_pages = sequences * (cost.sliding_pages(length, max_tokens_) + 1),
         .full_pages = sequences * (cost.full_pages(length) + 1)});
  }

  /// Runs `tokens` random tokens into an empty sequence, in chunks; logits of the last one only.
  Status fill(KvCache& cache, CacheSeq seq, std::int64_t tokens) {
    for (std::int64_t done = 0; done < tokens;) {
      const std::int64_t n = std::min(tokens - done, max_tokens_);
      std::vector<TokenId> ids(static_cast<std::size_t>(n));
      for (TokenId& id : ids) id = random_token();
      const bool last = done + n == tokens;
      const SequenceChunk chunk{.seq = seq,
                                .tokens = ids,
                                .first_position = done,
                                .logits = last ? Logits::kLast : Logits::kNone};
      GEM8_RETURN_IF_ERROR(model_->forward({.chunks = {&chunk, 1}}, cache, logits(last ? 1 : 0)));
      done += n;
    }
    return {};
  }

  /// One token of every sequence.
  Status step(KvCache& cache, std::span<const CacheSeq> sequences, Observer* observer) {
    std::vector<TokenId> ids(sequences.size());
    std::vector<SequenceChunk> chunks;
    for (std::size_t i = 0; i < sequences.size(); ++i) {
      ids[i] = random_token();
      chunks.push_back({.seq = sequences[i],
                        .tokens = {&ids[i], 1},
                        .first_position = cache.length(sequences[i])});
    }
    return model_->forward({.chunks = chunks}, cache,
                           logits(static_cast<std::int64_t>(sequences.size())), observer);
  }

  Mat logits(std::int64_t rows) {
    logits_.resize(std::max(logits_.size(), static_cast<std::size_t>(rows * model_->vocab())));
    return {logits_.data(), DType::kF32, rows, model_->vocab(), model_->vocab()};
  }

  /// Any id that is not a placeholder of images or audio: those stand at the end of the vocabulary.
  TokenId random_token() {
    const auto limit =
        static_cast<std::int32_t>(std::min<std::int64_t>(model_->vocab(), 250000) * 9 / 10);
    return TokenId{std::uniform_int_distribution<std::int32_t>(0, limit - 1)(random_)};
  }

  ThreadPool* pool_;
  const SpeedPlan* plan_;
  std::unique_ptr<Device> device_;
  std::unique_ptr<Ops> ops_;
  std::unique_ptr<Model> model_;
  std::unique_ptr<ReadProbe> probe_;
  std::int64_t max_tokens_ = 0;
  std::vector<float> logits_;
  std::vector<double> reads_, peaks_;
  std::mt19937 random_{1};
};

}  // namespace

Result<Speed> measure_speed(std::shared_ptr<const Checkpoint> checkpoint, ThreadPool& pool,
                            const SpeedPlan& plan,
                            const std::function<void(const std::string&)>& progress) {
  GEM8_TRY(const auto bench, Bench::make(std::move(checkpoint), pool, plan));
  Speed speed;
  for (const std::int64_t depth : plan.depths) {
    for (const std::int64_t batch : plan.batches) {
      progress(fmt::format("decode, batch {}, depth {}", batch, depth));
      GEM8_TRY(const DecodeSpeed row, bench->decode(batch, depth));
      speed.decode.push_back(row);
    }
  }
  for (const std::int64_t tokens : plan.prompts) {
    progress(fmt::format("prefill, {} tokens", tokens));
    GEM8_TRY(const PrefillSpeed row, bench->prefill(tokens));
    speed.prefill.push_back(row);
  }
  speed.read_gbps = bench->read_gbps();
  speed.bf16_gflops = bench->bf16_gflops();
  return speed;
}

}  // namespace gem8
