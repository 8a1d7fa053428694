#include "model/trace.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "formats/model_config.h"
#include "formats/safetensors_writer.h"
#include "foundation/check.h"
#include "model/kv_cache.h"
#include "model/matrix.h"

namespace gem8 {

Trace::Entry& Trace::entry(std::string_view name, DType dtype, std::int64_t cols) {
  const auto found = std::ranges::find(entries_, name, &Entry::name);
  if (found == entries_.end()) {
    return entries_.emplace_back(
        Entry{.name = std::string(name), .dtype = dtype, .rows = 0, .cols = cols, .bytes = {}});
  }
  GEM8_CHECK(found->dtype == dtype && found->cols == cols);
  return *found;
}

void Trace::add(std::string_view name, ConstMat x) {
  GEM8_CHECK(x.dtype == DType::kF32 || x.dtype == DType::kBF16);
  Entry& to = entry(name, DType::kF32, x.cols);
  const std::size_t element = dtype_bytes(x.dtype);
  const auto cols = static_cast<std::size_t>(x.cols);
  std::vector<std::byte> row(cols * element);
  std::vector<float> wide(cols);
  for (std::int64_t i = 0; i < x.rows; ++i) {
    device_.download(
        static_cast<const std::byte*>(x.data) + static_cast<std::size_t>(i * x.stride) * element,
        row);
    for (std::size_t j = 0; j < cols; ++j) {
      if (x.dtype == DType::kF32) {
        std::memcpy(&wide[j], row.data() + j * element, element);
      } else {
        BF16 value;
        std::memcpy(&value.bits, row.data() + j * element, element);
        wide[j] = static_cast<float>(value);
      }
    }
    const auto raw = std::as_bytes(std::span(wide));
    to.bytes.insert(to.bytes.end(), raw.begin(), raw.end());
  }
  to.rows += x.rows;
}

void Trace::add(std::string_view name, std::span<const std::int64_t> values, std::int64_t cols) {
  Entry& to = entry(name, DType::kI64, cols);
  const auto raw = std::as_bytes(values);
  to.bytes.insert(to.bytes.end(), raw.begin(), raw.end());
  to.rows += static_cast<std::int64_t>(values.size()) / std::max<std::int64_t>(1, cols);
}

void Trace::add(std::string_view name, std::span<const float> values, std::int64_t cols) {
  Entry& to = entry(name, DType::kF32, cols);
  const auto raw = std::as_bytes(values);
  to.bytes.insert(to.bytes.end(), raw.begin(), raw.end());
  to.rows += static_cast<std::int64_t>(values.size()) / cols;
}

void Trace::tensor(Tap tap, std::int32_t layer, ConstMat x) {
  switch (tap) {
    case Tap::kEmbeddings:
      return add("embeddings", x);
    case Tap::kLayerOut:
      return add(fmt::format("layers.{}.output", layer), x);
    case Tap::kFinalNorm:
      return add("final_norm", x);
    case Tap::kLogits:
      return add("logits", x);
    default:
      return;
  }
}

void Trace::routing(std::int32_t layer, const Routing& chosen, ConstMat logits) {
  const std::string prefix = fmt::format("layers.{}.router.", layer);
  add(prefix + "logits", logits);
  const auto n = static_cast<std::size_t>(chosen.tokens * chosen.top_k);
  std::vector<std::int32_t> experts(n);
  device_.download(chosen.experts, std::as_writable_bytes(std::span(experts)));
  add(prefix + "experts", std::vector<std::int64_t>(experts.begin(), experts.end()), chosen.top_k);
  add(prefix + "weights",
      ConstMat{chosen.weights, DType::kF32, chosen.tokens, chosen.top_k, chosen.top_k});
}

Status Trace::write(const std::filesystem::path& path) const {
  std::vector<TensorSpec> specs;
  for (const Entry& e : entries_) {
    specs.push_back(
        {e.name, e.dtype, e.cols == 0 ? std::vector{e.rows} : std::vector{e.rows, e.cols}});
  }
  sort_for_alignment(specs);
  GEM8_TRY(SafetensorsWriter writer, SafetensorsWriter::create(path, specs));
  for (const TensorSpec& spec : specs) {
    GEM8_RETURN_IF_ERROR(
        writer.append(spec.name, std::ranges::find(entries_, spec.name, &Entry::name)->bytes));
  }
  return writer.finish();
}

Status trace_sequence(Model& model, std::span<const TokenId> tokens,
                      std::span<const SoftTokens> soft, std::int64_t chunk, Trace& trace) {
  if (tokens.empty()) return fail(Code::kInvalidArgument, "no tokens to trace");
  const auto n_tokens = static_cast<std::int64_t>(tokens.size());
  if (chunk == 0) chunk = std::min(n_tokens, model.max_batch_tokens());
  const std::int64_t pages = (n_tokens + KvLayer::kPageTokens - 1) / KvLayer::kPageTokens;
  GEM8_TRY(const std::unique_ptr<KvCache> cache,
           KvCache::create(model.config().text, model.ops(),
                           {.sliding_pages = pages, .full_pages = pages, .layers = {}}));
  GEM8_TRY(const Matrix logits, Matrix::create(model.ops().device(), DType::kF32,
                                               std::min(chunk, n_tokens), model.vocab()));
  const CacheSeq seq = cache->open();
  for (std::int64_t at = 0; at < n_tokens; at += chunk) {
    const std::int64_t n = std::min(chunk, n_tokens - at);
    std::vector<SoftTokens> mine;
    for (const SoftTokens& image : soft) {
      const std::int64_t begin = image.offset;
      const std::int64_t end = begin + image.rows.rows;
      if (end <= at || begin >= at + n) continue;
      if (begin < at || end > at + n) {
        return fail(Code::kInvalidArgument,
                    "the soft tokens at {} to {} are cut by a step of {} tokens", begin, end - 1,
                    chunk);
      }
      mine.push_back({begin - at, image.rows});
    }
    const SequenceChunk step{
        .seq = seq,
        .tokens = tokens.subspan(static_cast<std::size_t>(at), static_cast<std::size_t>(n)),
        .first_position = at,
        .soft = mine,
        .logits = Logits::kAll};
    GEM8_RETURN_IF_ERROR(model.forward({.chunks = {&step, 1}}, *cache, logits.mat(n), &trace));
  }
  std::vector<std::int64_t> ids;
  for (const TokenId token : tokens) ids.push_back(value_of(token));
  trace.add("tokens", ids);
  return {};
}

namespace {

class TowerTrace final : public VisionObserver {
 public:
  TowerTrace(Trace& trace, std::string prefix) : trace_(trace), prefix_(std::move(prefix)) {}

  void tensor(VisionTap tap, std::int32_t layer, ConstMat x) override {
    switch (tap) {
      case VisionTap::kPatchEmbed:
        return trace_.add(prefix_ + "patch_embed", x);
      case VisionTap::kLayerOut:
        return trace_.add(fmt::format("{}layers.{}.output", prefix_, layer), x);
      case VisionTap::kPooled:
        return trace_.add(prefix_ + "pooled", x);
      case VisionTap::kTower:
        return;
    }
  }

 private:
  Trace& trace_;
  std::string prefix_;
};

}  // namespace

Result<std::vector<SoftTokenMatrix>> trace_images(VisionTower& tower,
                                                  std::span<const Patches* const> images,
                                                  Trace& trace) {
  std::vector<SoftTokenMatrix> all;
  for (const Patches* image : images) {
    const std::string prefix = fmt::format("images.{}.", all.size());
    TowerTrace observer(trace, prefix);
    GEM8_TRY(SoftTokenMatrix soft, tower.encode({&image, 1}, &observer));
    trace.add(prefix + "pixels", image->pixels, kPatchValues);
    trace.add(prefix + "positions", image->positions, 2);
    trace.add(prefix + "soft_tokens", soft.rows);
    all.push_back(std::move(soft));
  }
  return all;
}

}  // namespace gem8
