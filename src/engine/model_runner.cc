#include "engine/model_runner.h"

#include <bit>
#include <numeric>

#include "model/model.h"

namespace gem8 {
namespace {

class CachedModelRunner final : public ModelRunner {
 public:
  CachedModelRunner(Model& model, KvCache& cache, const KvCacheCost& cost, VisionTower* tower)
      : model_(model), cache_(cache), cost_(cost), tower_(tower) {}

  std::int64_t vocab() const override { return model_.vocab(); }
  std::int64_t hidden() const override { return model_.hidden(); }
  std::int64_t max_batch_tokens() const override { return model_.max_batch_tokens(); }

  CachePages total_pages() const override {
    return {cache_.total_pages(CacheGroup::kSliding), cache_.total_pages(CacheGroup::kFull)};
  }
  CachePages used_pages() const override {
    return {cache_.used_pages(CacheGroup::kSliding), cache_.used_pages(CacheGroup::kFull)};
  }
  CachePages pages_for(std::int64_t n_tokens, std::int64_t max_chunk) const override {
    return {cost_.sliding_pages(n_tokens, max_chunk), cost_.full_pages(n_tokens)};
  }

  CacheSeq open() override { return cache_.open(); }
  void close(CacheSeq seq) override { cache_.close(seq); }

  Result<std::vector<SoftTokenMatrix>> encode(std::span<const Patches* const> images) override {
    if (tower_ == nullptr) return fail(Code::kUnsupported, "this model takes no images");
    GEM8_TRY(SoftTokenMatrix all, tower_->encode(images));
    std::vector<SoftTokenMatrix> each;
    if (images.size() == 1) {
      each.push_back(std::move(all));
      return each;
    }
    // Memory of its own for each: they leave the cache one by one.
    Ops& ops = model_.ops();
    std::int64_t row = 0;
    for (const Patches* image : images) {
      std::vector<std::int32_t> rows(static_cast<std::size_t>(image->soft_tokens()));
      std::iota(rows.begin(), rows.end(), static_cast<std::int32_t>(row));
      row += image->soft_tokens();
      SoftTokenMatrix one;
      one.rows = all.rows;
      one.rows.rows = image->soft_tokens();
      one.rows.stride = all.rows.cols;
      GEM8_TRY(one.memory,
               ops.device().allocate(static_cast<std::size_t>(one.rows.rows * one.rows.stride) *
                                     dtype_bytes(one.rows.dtype)));
      one.rows.data = one.memory.address();
      ops.gather_rows(all.rows, rows, one.rows);
      each.push_back(std::move(one));
    }
    return each;
  }

  Status forward(const Batch& batch) override {
    const std::int64_t rows = batch.logit_rows();
    if (rows > logit_rows_) {
      // Powers of two: a growing batch allocates a few times, a steady one never.
      const auto room = static_cast<std::int64_t>(std::bit_ceil(static_cast<std::uint64_t>(rows)));
      GEM8_TRY(logits_, model_.ops().device().allocate(static_cast<std::size_t>(room * vocab()) *
                                                       sizeof(float)));
      logit_rows_ = room;
    }
    return model_.forward(batch, cache_, {logits_.address(), DType::kF32, rows, vocab(), vocab()});
  }

  void copy_logits(std::int64_t row, std::span<float> to) const override {
    model_.ops().device().download(static_cast<const float*>(logits_.address()) + row * vocab(),
                                   std::as_writable_bytes(to));
  }

 private:
  Model& model_;
  KvCache& cache_;
  KvCacheCost cost_;
  VisionTower* tower_;
  Buffer logits_;
  std::int64_t logit_rows_ = 0;
};

}  // namespace

std::unique_ptr<ModelRunner> make_model_runner(Model& model, KvCache& cache,
                                               const KvCacheCost& cost, VisionTower* tower) {
  return std::make_unique<CachedModelRunner>(model, cache, cost, tower);
}

}  // namespace gem8
