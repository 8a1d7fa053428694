#pragma once

#include <atomic>
#include <functional>
#include <mutex>
#include <vector>

#include "engine/model_runner.h"
#include "foundation/check.h"

namespace gem8::testing {

/// A model for tests of the engine: logits are a hash of the sequence's tokens so far, so an answer
/// depends on all of its own tokens, on nothing else, and on how they were cut into steps only by
/// mistake. It checks what a real model and cache would check.
class FakeRunner final : public ModelRunner {
 public:
  static constexpr std::int64_t kPage = 8;

  explicit FakeRunner(CachePages pages = {1000, 1000}) : pages_(pages) {}

  /// Called at the start of every step, on the engine thread.
  std::function<void(const Batch&)> on_step;
  /// What forward() answers instead of computing, when it returns an error.
  std::function<Status(const Batch&)> fault;
  /// The same for images.
  std::function<Status(const Patches&)> encode_fault;
  /// Changes a row before it is sampled.
  std::function<void(std::span<const TokenId> tokens, std::span<float> row)> shape;

  std::int64_t vocab() const override { return 64; }
  std::int64_t hidden() const override { return 4; }
  std::int64_t max_batch_tokens() const override { return 512; }
  CachePages total_pages() const override { return pages_; }
  CachePages used_pages() const override { return {used_, used_}; }
  CachePages pages_for(std::int64_t n_tokens, std::int64_t) const override {
    const std::int64_t n = (n_tokens + kPage - 1) / kPage;
    return {n, n};
  }

  CacheSeq open() override {
    sequences_.emplace_back();
    ++n_open_;
    return CacheSeq{static_cast<std::int32_t>(sequences_.size()) - 1};
  }
  void close(CacheSeq seq) override {
    auto& tokens = sequences_[static_cast<std::size_t>(seq)];
    used_ -= pages_for(std::ssize(tokens), 1).full;
    tokens.clear();
    --n_open_;
  }
  int n_open() const { return n_open_; }

  Result<std::vector<SoftTokenMatrix>> encode(std::span<const Patches* const> images) override {
    std::vector<SoftTokenMatrix> encoded;
    for (const Patches* image : images) {
      if (encode_fault) GEM8_RETURN_IF_ERROR(encode_fault(*image));
      encoded.emplace_back().rows = {nullptr, DType::kF32, image->soft_tokens(), hidden(),
                                     hidden()};
    }
    n_encoded_ += static_cast<int>(images.size());
    ++n_passes_;
    return encoded;
  }
  int n_encoded() const { return n_encoded_; }  ///< images
  int n_passes() const { return n_passes_; }    ///< of the tower

  Status forward(const Batch& batch) override {
    if (on_step) on_step(batch);
    if (fault) GEM8_RETURN_IF_ERROR(fault(batch));
    GEM8_CHECK(batch.tokens() <= max_batch_tokens());
    rows_.clear();
    for (const SequenceChunk& chunk : batch.chunks) {
      auto& tokens = sequences_[static_cast<std::size_t>(chunk.seq)];
      GEM8_CHECK(!chunk.tokens.empty() && chunk.first_position == std::ssize(tokens));
      if (tokens.capacity() == 0) tokens.reserve(4096);
      used_ -= pages_for(std::ssize(tokens), 1).full;
      tokens.insert(tokens.end(), chunk.tokens.begin(), chunk.tokens.end());
      used_ += pages_for(std::ssize(tokens), 1).full;
      if (chunk.logits == Logits::kLast) rows_.push_back(static_cast<std::size_t>(chunk.seq));
    }
    GEM8_CHECK(used_ <= pages_.full);
    return {};
  }

  void copy_logits(std::int64_t row, std::span<float> to) const override {
    const auto& tokens = sequences_[rows_[static_cast<std::size_t>(row)]];
    std::uint64_t hash = 1469598103934665603u;
    for (const TokenId token : tokens)
      hash = (hash ^ static_cast<std::uint64_t>(value_of(token))) * 1099511628211u;
    for (std::size_t id = 0; id < to.size(); ++id) {
      hash = (hash ^ (hash >> 29)) * 0xbf58476d1ce4e5b9u + id;
      to[id] = static_cast<float>(hash >> 40) * 0x1p-22f;
    }
    to[0] = to[1] = to[2] = to[62] = -10.0f;  // end tokens and their like: not by chance
    if (shape) shape(tokens, to);
  }

 private:
  CachePages pages_;
  std::vector<std::vector<TokenId>> sequences_;
  std::vector<std::size_t> rows_;
  std::int64_t used_ = 0;
  std::atomic<int> n_open_{0};
  std::atomic<int> n_encoded_{0};
  std::atomic<int> n_passes_{0};
};

}  // namespace gem8::testing
