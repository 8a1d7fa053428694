#include "tests/golden/text_model.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>

#include "foundation/mapped_file.h"
#include "model/matrix.h"

namespace gem8::testing {

namespace fs = std::filesystem;

Golden::Golden(const std::filesystem::path& path) {
  auto file = SafetensorsFile::open(path);
  if (!file) {
    ADD_FAILURE() << file.error().text();
    std::abort();  // nothing to compare with: a fixture of ours is broken
  }
  file_ = std::move(*file);
}

std::vector<float> Golden::floats(const std::string& name) const {
  const TensorInfo* info = file_->find(name);
  EXPECT_NE(info, nullptr) << name;
  if (info == nullptr) return {};
  std::vector<float> values(info->n_elements());
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (info->dtype == DType::kF32) {
      std::memcpy(&values[i], info->bytes.data() + i * 4, 4);
    } else if (info->dtype == DType::kBF16) {
      BF16 value;
      std::memcpy(&value.bits, info->bytes.data() + i * 2, 2);
      values[i] = static_cast<float>(value);
    } else {
      ADD_FAILURE() << name << " is " << dtype_name(info->dtype);
      return {};
    }
  }
  return values;
}

std::vector<std::int64_t> Golden::ints(const std::string& name) const {
  const TensorInfo* info = file_->find(name);
  EXPECT_NE(info, nullptr) << name;
  if (info == nullptr) return {};
  std::vector<std::int64_t> values(info->n_elements());
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (info->dtype == DType::kI64) {
      std::memcpy(&values[i], info->bytes.data() + i * 8, 8);
    } else if (info->dtype == DType::kI32) {
      std::int32_t value = 0;
      std::memcpy(&value, info->bytes.data() + i * 4, 4);
      values[i] = value;
    } else {
      values[i] = std::to_integer<std::uint8_t>(info->bytes[i]);
      EXPECT_TRUE(info->dtype == DType::kU8) << name << " is " << dtype_name(info->dtype);
    }
  }
  return values;
}

std::vector<TokenId> Golden::tokens(const std::string& name) const {
  std::vector<TokenId> ids;
  for (const std::int64_t id : ints(name)) ids.push_back(TokenId{static_cast<std::int32_t>(id)});
  return ids;
}

std::span<const std::int64_t> Golden::shape(const std::string& name) const {
  const TensorInfo* info = file_->find(name);
  EXPECT_NE(info, nullptr) << name;
  return info == nullptr ? std::span<const std::int64_t>() : info->shape;
}

std::vector<std::string> Golden::names() const {
  std::vector<std::string> names;
  for (const TensorInfo& info : file_->tensors()) names.push_back(info.name);
  return names;
}

std::vector<std::string> Golden::sequences() const {
  std::vector<std::string> sequences;
  for (const std::string& name : names()) {
    if (name.ends_with(".input_ids")) sequences.push_back(name.substr(0, name.find('.')));
  }
  return sequences;
}

std::vector<std::int64_t> Golden::positions(const std::string& seq) const {
  if (has(seq + ".positions")) return ints(seq + ".positions");
  std::vector<std::int64_t> all(ints(seq + ".input_ids").size());
  std::iota(all.begin(), all.end(), 0);
  return all;
}

std::optional<Soft> Golden::soft(const std::string& seq) const {
  if (!has(seq + ".soft_tokens")) return std::nullopt;
  Soft soft{.rows = floats(seq + ".soft_tokens"), .at = {}};
  for (const std::int64_t type : ints(seq + ".token_types")) soft.at.push_back(type != 0);
  return soft;
}

Json read_json(const fs::path& path) {
  const auto file = MappedFile::open(path);
  EXPECT_TRUE(file) << path;
  if (!file) return {};
  const auto bytes = file->bytes();
  auto json = parse_json({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
  EXPECT_TRUE(json) << path;
  return json ? *json : Json();
}

std::vector<float> negative_log_likelihood(std::span<const float> logits,
                                           std::span<const TokenId> ids, std::int64_t vocab) {
  std::vector<float> nll;
  for (std::size_t t = 0; t + 1 < ids.size(); ++t) {
    const auto row =
        logits.subspan(t * static_cast<std::size_t>(vocab), static_cast<std::size_t>(vocab));
    double sum = 0;  // no shift: soft-capped logits are at most 30
    for (const float z : row) sum += std::exp(static_cast<double>(z));
    nll.push_back(
        static_cast<float>(std::log(sum) - row[static_cast<std::size_t>(value_of(ids[t + 1]))]));
  }
  return nll;
}

Engine Engine::load(const std::filesystem::path& dir, const OpsOptions& options,
                    const ModelOptions& model_options, std::size_t threads) {
  Engine engine;
  engine.device = make_cpu_device();
  engine.pool = std::make_unique<ThreadPool>(threads);
  auto ops = make_cpu_ops(*engine.device, *engine.pool, options);
  auto checkpoint = Checkpoint::open(dir);
  if (!ops || !checkpoint) {
    ADD_FAILURE() << (!ops ? ops.error().text() : checkpoint.error().text());
    return {};
  }
  engine.ops = std::move(*ops);
  engine.checkpoint = std::make_shared<const Checkpoint>(std::move(*checkpoint));
  auto model = Model::load(engine.checkpoint, *engine.ops, model_options);
  if (!model) {
    ADD_FAILURE() << model.error().text();
    return {};
  }
  engine.model = std::move(*model);
  return engine;
}

std::unique_ptr<KvCache> Engine::cache(std::int64_t pages) const {
  auto cache = KvCache::create(model->config().text, *ops,
                               {.sliding_pages = pages, .full_pages = pages, .layers = {}});
  EXPECT_TRUE(cache) << cache.error().text();
  return cache ? std::move(*cache) : nullptr;
}

std::vector<float> Engine::read(ConstMat x) const {
  const std::size_t cols = static_cast<std::size_t>(x.cols);
  const std::size_t element = dtype_bytes(x.dtype);
  std::vector<float> values(static_cast<std::size_t>(x.rows) * cols);
  std::vector<std::byte> raw(cols * element);
  for (std::int64_t row = 0; row < x.rows; ++row) {
    device->download(
        static_cast<const std::byte*>(x.data) + static_cast<std::size_t>(row * x.stride) * element,
        raw);
    for (std::size_t col = 0; col < cols; ++col) {
      float& value = values[static_cast<std::size_t>(row) * cols + col];
      if (x.dtype == DType::kF32) {
        std::memcpy(&value, raw.data() + col * 4, 4);
      } else {
        BF16 narrow;
        std::memcpy(&narrow.bits, raw.data() + col * 2, 2);
        value = static_cast<float>(narrow);
      }
    }
  }
  return values;
}

void Recorder::tensor(Tap tap, std::int32_t layer, ConstMat x) {
  const std::vector<float> rows = engine_.read(x);
  auto& all = tensors_[{tap, layer}];
  all.insert(all.end(), rows.begin(), rows.end());
}

void Recorder::routing(std::int32_t layer, const Routing& chosen, ConstMat logits) {
  const auto n = static_cast<std::size_t>(chosen.tokens * chosen.top_k);
  std::vector<std::int32_t> experts(n);
  std::vector<float> weights(n);
  engine_.device->download(chosen.experts, std::as_writable_bytes(std::span(experts)));
  engine_.device->download(chosen.weights, std::as_writable_bytes(std::span(weights)));
  experts_[layer].insert(experts_[layer].end(), experts.begin(), experts.end());
  weights_[layer].insert(weights_[layer].end(), weights.begin(), weights.end());
  const std::vector<float> rows = engine_.read(logits);
  logits_[layer].insert(logits_[layer].end(), rows.begin(), rows.end());
}

std::vector<float> run(const Engine& engine, std::span<const TokenId> ids, Observer* observer,
                       std::span<const std::size_t> chunks, const Soft* soft) {
  const auto cache = engine.cache();
  if (!cache) return {};
  const CacheSeq seq = cache->open();
  std::vector<float> logits;
  std::size_t soft_row = 0;
  const std::size_t hidden = static_cast<std::size_t>(engine.model->hidden());
  for (std::size_t at = 0, turn = 0; at < ids.size(); ++turn) {
    std::size_t n = chunks.empty() ? ids.size() : chunks[std::min(turn, chunks.size() - 1)];
    n = std::min(n, ids.size() - at);
    std::vector<SoftTokens> placed;
    for (std::size_t i = 0; soft != nullptr && i < n; ++i) {
      if (!soft->at[at + i]) continue;
      const bool continues = i > 0 && soft->at[at + i - 1];
      if (!continues) {
        placed.push_back({static_cast<std::int64_t>(i),
                          {soft->rows.data() + soft_row * hidden, DType::kF32, 0,
                           static_cast<std::int64_t>(hidden), static_cast<std::int64_t>(hidden)}});
      }
      ++placed.back().rows.rows;
      ++soft_row;
    }
    const SequenceChunk chunk{.seq = seq,
                              .tokens = ids.subspan(at, n),
                              .first_position = static_cast<std::int64_t>(at),
                              .soft = placed,
                              .logits = Logits::kAll};
    auto rows = Matrix::create(*engine.device, DType::kF32, static_cast<std::int64_t>(n),
                               engine.model->vocab());
    EXPECT_TRUE(rows);
    const Status status =
        engine.model->forward({.chunks = {&chunk, 1}}, *cache, rows->mat(), observer);
    EXPECT_TRUE(status) << status.error().text();
    if (!status) return {};
    const std::vector<float> read = engine.read(rows->mat());
    logits.insert(logits.end(), read.begin(), read.end());
    at += n;
  }
  return logits;
}

double largest_difference(std::span<const float> a, std::span<const float> b) {
  if (a.size() != b.size()) return std::numeric_limits<double>::infinity();
  double largest = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const double difference = std::abs(static_cast<double>(a[i]) - static_cast<double>(b[i]));
    if (!(difference <= std::numeric_limits<double>::max()))
      return std::numeric_limits<double>::infinity();
    largest = std::max(largest, difference);
  }
  return largest;
}

std::vector<float> take_rows(std::span<const float> x, std::size_t cols,
                             std::span<const std::int64_t> rows) {
  std::vector<float> taken;
  for (const std::int64_t row : rows) {
    const auto begin =
        x.begin() + static_cast<std::ptrdiff_t>(static_cast<std::size_t>(row) * cols);
    taken.insert(taken.end(), begin, begin + static_cast<std::ptrdiff_t>(cols));
  }
  return taken;
}

}  // namespace gem8::testing
