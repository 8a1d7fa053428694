#include <algorithm>

#include "foundation/check.h"
#include "foundation/log.h"
#include "kernels/attention/attention.h"
#include "kernels/context.h"
#include "kernels/element.h"
#include "kernels/elementwise/elementwise.h"
#include "kernels/embed/embed.h"
#include "kernels/image_attention/image_attention.h"
#include "kernels/kv_store/kv_store.h"
#include "kernels/linear/linear.h"
#include "kernels/ops.h"
#include "kernels/rms_norm/rms_norm.h"
#include "kernels/rms_norm/rope_cache.h"
#include "kernels/router/router.h"
#include "kernels/vision/vision.h"

namespace gem8 {
namespace {

/// The op set on the host: rows chosen once, drivers and scratch behind them.
class CpuOps final : public Ops {
 public:
  CpuOps(Device& device, ThreadPool& pool, const OpsOptions& options, isa::Level level)
      : device_(device),
        options_(options),
        context_(pool),
        linear_(isa::pick(linear_rows(), level).kernel),
        norm_(isa::pick(rms_norm_rows(), level).kernel),
        elementwise_(isa::pick(elementwise_rows(), level).kernel),
        attention_(isa::pick(attention_rows(), level).kernel),
        image_attention_(isa::pick(image_attention_rows(), level).kernel) {}

  Device& device() override { return device_; }
  DType activation_dtype() const override { return options_.activation_dtype; }

  void embed(std::span<const TokenId> ids, const LinearWeight& table, float scale, Mat y) override {
    embed_rows(context_.pool, ids, table, scale, y);
  }
  void scatter_rows(ConstMat x, std::span<const std::int32_t> rows, Mat y) override {
    gem8::scatter_rows(context_.pool, x, rows, y);
  }
  void gather_rows(ConstMat x, std::span<const std::int32_t> rows, Mat y) override {
    gem8::gather_rows(context_.pool, x, rows, y);
  }

  void rms_norm(ConstMat x, ParamVec w, float eps, Mat y) override {
    const NormCall call{x, w, eps, y};
    by_rows(x, [&](std::int64_t begin, std::int64_t end) { norm_.norm(call, begin, end); });
  }
  void norm_add(ConstMat a, ParamVec w, float eps, ConstMat r, float scale, Mat y) override {
    const NormAddCall call{a, w, eps, r, scale, y};
    by_rows(a, [&](std::int64_t begin, std::int64_t end) { norm_.norm_add(call, begin, end); });
  }
  void norm_rope(ConstMat x, std::int64_t heads, ParamVec w, float eps,
                 std::span<const std::int32_t> positions, const RopeTable& table, Mat y) override {
    NormRopeCall call{
        .x = x, .heads = heads, .head_dim = x.cols / heads, .w = w, .eps = eps, .y = y};
    if (table.inv_freq != nullptr) {
      const RopeCache::Angles angles =
          rope_.angles(context_.pool, positions, table, options_.activation_dtype);
      call.cos = angles.cos;
      call.sin = angles.sin;
    }
    by_rows(x, [&](std::int64_t begin, std::int64_t end) { norm_.norm_rope(call, begin, end); });
  }

  void linear(ConstMat x, std::span<const LinearTask> tasks) override {
    gem8::linear(context_, mode(), x, tasks);
  }
  void gated_linear(ConstMat x, const LinearWeight& gate, const LinearWeight& up, Mat y) override {
    gem8::gated_linear(context_, mode(), x, gate, up, y);
  }
  void router(ConstMat x, const RouterWeights& weights, float eps, Routing routing,
              Mat logits) override {
    gem8::router(context_, linear_, x, weights, eps, routing, logits);
  }
  void experts(ConstMat x, const Routing& routing, const ExpertWeights& weights, Mat y,
               ExpertObserver observer) override {
    gem8::experts(context_, mode(), x, routing, weights, y, observer);
  }

  void store_kv(ConstMat k, ConstMat v, const KvLayer& layer,
                std::span<const SequenceRows> sequences) override {
    gem8::store_kv(context_.pool, k, v, layer, sequences);
  }
  void attention(ConstMat q, std::int64_t heads, const KvLayer& layer, const AttentionStep& step,
                 Mat y) override {
    gem8::attention(context_, attention_, q, heads, layer, step, y);
  }

  void gelu_mul(ConstMat a, ConstMat b, Mat y) override {
    elementwise(elementwise_.gelu_mul, {a, b, 1.0f, y});
  }
  void scale(ConstMat x, float factor, Mat y) override {
    elementwise(elementwise_.scale, {x, {}, factor, y});
  }
  void add(ConstMat a, ConstMat b, float factor, Mat y) override {
    elementwise(elementwise_.add, {a, b, factor, y});
  }
  void soft_cap(Mat x, float cap) override { elementwise(elementwise_.soft_cap, {x, {}, cap, x}); }
  float absmax(ConstMat x) override { return gem8::absmax(context_.pool, x); }

  void norm_rope_2d(ConstMat x, std::int64_t heads, ParamVec w, float eps,
                    std::span<const std::int32_t> columns, std::span<const std::int32_t> rows,
                    const RopeTable& table, Mat y) override {
    gem8::norm_rope_2d(context_.pool, x, heads, w, eps, columns, rows, table, y);
  }

  void image_attention(ConstMat q, ConstMat k, ConstMat v, std::int64_t heads,
                       std::span<const PatchGrid> images, Mat y) override {
    gem8::image_attention(context_, image_attention_, q, k, v, heads, images, y);
  }

  void pool_patches(ConstMat x, std::span<const PatchGrid> images, float factor, ParamVec bias,
                    ParamVec scale, Mat y) override {
    gem8::pool_patches(context_.pool, x, images, factor, bias, scale, y);
  }

  void clamp(ConstMat x, float low, float high, Mat y) override {
    gem8::clamp_values(context_.pool, x, low, high, y);
  }

 private:
  LinearMode mode() const { return {linear_, options_.activations}; }

  template <class Body>
  void by_rows(const ConstMat& x, Body&& body) {
    for_ranges(context_.pool, static_cast<std::size_t>(x.rows), rows_per_chunk(x.cols),
               [&](std::size_t begin, std::size_t end, std::size_t) {
                 body(static_cast<std::int64_t>(begin), static_cast<std::int64_t>(end));
               });
  }
  void elementwise(ElementwiseKernel::Function function, const ElementwiseCall& call) {
    by_rows(call.a, [&](std::int64_t begin, std::int64_t end) { function(call, begin, end); });
  }

  Device& device_;
  OpsOptions options_;
  KernelContext context_;
  RopeCache rope_;
  LinearKernel linear_;
  RmsNormKernel norm_;
  ElementwiseKernel elementwise_;
  AttentionKernel attention_;
  ImageAttentionKernel image_attention_;
};

}  // namespace

Result<std::unique_ptr<Ops>> make_cpu_ops(Device& device, ThreadPool& pool,
                                          const OpsOptions& options) {
  if (options.activation_dtype != DType::kF32 && options.activation_dtype != DType::kBF16) {
    return fail(Code::kUnsupported, "activations of {}: want F32 or BF16",
                dtype_name(options.activation_dtype));
  }
  GEM8_TRY(const isa::Level chosen, isa::choose());
  const isa::Level level = options.activation_dtype == DType::kF32 ? isa::kAny : chosen;
  log_verbose("kernels: {} rows, {} threads", isa::level_name(level), pool.size());
  return std::make_unique<CpuOps>(device, pool, options, level);
}

}  // namespace gem8
