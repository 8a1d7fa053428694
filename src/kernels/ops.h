#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "backend/device.h"
#include "foundation/dtype.h"
#include "foundation/thread_pool.h"
#include "foundation/token_id.h"

/// The op set: everything the Gemma 4 forward pass asks of a backend. The model is written once
/// against it.
///
/// Conventions. Matrices are row-major on one device; `stride` counts elements between rows. An
/// *activation* matrix has the dtype the ops were made with: F32 (the reference path) or BF16.
/// "R(...)" is rounding to that dtype; sums, norms, softmax and activation functions are computed
/// in F32 in both. Outputs may not overlap inputs unless the op says so. Every row of a result
/// depends only on its own row of the input (and, for attention, its own sequence), with an order
/// of accumulation that does not depend on the other rows: any batching and any chunking give
/// bit-identical rows. Results do not depend on the number of threads. Ops cannot fail: shapes were
/// checked when the model was bound.
namespace gem8 {

struct ConstMat {
  const void* data = nullptr;
  DType dtype = DType::kF32;
  std::int64_t rows = 0;
  std::int64_t cols = 0;
  std::int64_t stride = 0;
};

struct Mat {
  void* data = nullptr;
  DType dtype = DType::kF32;
  std::int64_t rows = 0;
  std::int64_t cols = 0;
  std::int64_t stride = 0;

  operator ConstMat() const {
    return {data, dtype, rows, cols, stride};
  }  // NOLINT: a Mat is readable
};

/// A vector of BF16 or F32 parameters (norm weights, router scale) on the device; `data` null means
/// "none" where an op allows it.
struct ParamVec {
  const void* data = nullptr;
  DType dtype = DType::kBF16;
  std::int64_t size = 0;
};

/// A linear's weight [out, in], rows contiguous. real = stored * scale; BF16 and F32 weights have
/// scale 1.
struct LinearWeight {
  const void* data = nullptr;
  DType dtype = DType::kBF16;  ///< kBF16, kF32 or kF8E4M3
  std::int64_t out = 0;
  std::int64_t in = 0;
  float scale = 1.0f;  ///< per tensor
  float input_scale =
      0.0f;  ///< static activation scale; 0: none stored (dynamic, or not quantised)
};

/// One output of a group of linears that read the same input. `y` is an activation matrix or F32
/// (logits).
struct LinearTask {
  const LinearWeight* weight = nullptr;
  Mat y;
};

struct RouterWeights {
  ParamVec scale;             ///< [hidden]
  LinearWeight proj;          ///< [experts, hidden], never quantised
  ParamVec per_expert_scale;  ///< [experts]
};

/// Chosen experts of every token, on the device: best first, the lower id first among equals.
struct Routing {
  std::int32_t* experts = nullptr;  ///< [tokens, top_k]
  float* weights = nullptr;  ///< [tokens, top_k], after renormalisation and per-expert scale; they
                             ///< do not sum to 1
  std::int64_t tokens = 0;
  std::int64_t top_k = 0;
};

/// The experts of one layer: [experts] of each. gate/up [ffn, hidden], down [hidden, ffn].
struct ExpertWeights {
  std::span<const LinearWeight> gate;
  std::span<const LinearWeight> up;
  std::span<const LinearWeight> down;
};

/// Half-split rotary embedding of one layer type: lane j pairs with lane j + head_dim/2.
struct RopeTable {
  const float* inv_freq =
      nullptr;  ///< device, [head_dim / 2]; zero entries leave their lanes unrotated
  std::int64_t head_dim = 0;
};

/// The cache of one layer: pages of kPageTokens positions. Page p of head h holds keys at
/// k + ((p * kv_heads + h) * kPageTokens + slot) * k_lanes, values likewise with head_dim.
///
/// `k_in_v`: this layer's keys and values come from one projection (attention_k_eq_v). Only the
/// `k_lanes` rotated lanes of K are stored (the first k_lanes/2 lanes of each half of the head);
/// the others are V ⊙ k_norm weight and are folded into the query.
struct KvLayer {
  static constexpr std::int64_t kPageTokens = 32;

  void* k = nullptr;
  void* v = nullptr;
  DType dtype = DType::kBF16;  ///< the activation dtype
  std::int64_t kv_heads = 0;
  std::int64_t head_dim = 0;
  std::int64_t k_lanes = 0;  ///< == head_dim unless k_in_v
  bool k_in_v = false;
  ParamVec k_norm;  ///< [head_dim], read by attention when k_in_v
};

/// One sequence's rows in the batch of this step. Position p of the sequence lies in page `pages[p
/// / kPageTokens]`, slot p % kPageTokens; entries of pages that left a sliding window are never
/// read.
struct SequenceRows {
  std::int64_t first_row = 0;  ///< of the batch
  std::int64_t n_rows = 0;
  std::int64_t first_position = 0;      ///< of first_row; rows are consecutive positions
  std::span<const std::int32_t> pages;  ///< host
};

/// A maximal run of image tokens inside one sequence: on sliding layers its tokens see each other
/// in both directions.
struct ImageBlock {
  std::int64_t sequence = 0;  ///< index into the sequences of the step
  std::int64_t first_position = 0;
  std::int64_t n_tokens = 0;
};

/// allowed(q, k) = k > q - window  and  (k <= q  or  q and k in the same block);  window 0: no
/// limit. Full layers pass no blocks.
struct AttentionStep {
  std::span<const SequenceRows> sequences;
  std::span<const ImageBlock> blocks;
  std::int64_t window = 0;
};

/// How linears with FP8 weights read their input.
enum class Activations {
  kBF16,  ///< weight-only: FP8 weights times activations as they are
  kFP8,   ///< W8A8: the input is rounded to E4M3 with the static input scale, or per token where
          ///< none is stored
};

/// Where calibration looks: the largest |input| of each expert's down projection. Null spans: do
/// not look.
struct ExpertObserver {
  std::span<float> down_input_amax;  ///< host, [experts]; raised, never lowered
};

/// The patches of one image among the rows of a tower pass: row-major, sides divisible by 3.
struct PatchGrid {
  std::int64_t first_row = 0;
  std::int64_t columns = 0;
  std::int64_t rows = 0;
};

class Ops {
 public:
  virtual ~Ops() = default;

  virtual Device& device() = 0;
  virtual DType activation_dtype() const = 0;

  /// y[t] = R(table[ids[t]] * scale). table [vocab, hidden] BF16 or F32; ids on the host, all
  /// within the table.
  virtual void embed(std::span<const TokenId> ids, const LinearWeight& table, float scale,
                     Mat y) = 0;

  /// y[rows[i]] = x[i] (scatter) and y[i] = x[rows[i]] (gather); rows on the host. dtypes may
  /// differ: the copy rounds or widens.
  virtual void scatter_rows(ConstMat x, std::span<const std::int32_t> rows, Mat y) = 0;
  virtual void gather_rows(ConstMat x, std::span<const std::int32_t> rows, Mat y) = 0;

  /// y[t, h] = R(x[t, h] * (mean over h of x[t, h]^2 + eps)^-1/2 * w[h]); w none: without the
  /// factor. y may be x.
  virtual void rms_norm(ConstMat x, ParamVec w, float eps, Mat y) = 0;

  /// y = R(R(r + R(rms_norm(a, w))) * scale): the end of a block: post-norm, residual add, layer
  /// scalar. y may be r or a.
  virtual void norm_add(ConstMat a, ParamVec w, float eps, ConstMat r, float scale, Mat y) = 0;

  /// y_i = R(x · W_iᵀ * scale_i) for tasks that share x; one parallel region for all of them; at
  /// most 8 tasks.
  virtual void linear(ConstMat x, std::span<const LinearTask> tasks) = 0;

  /// y = R(R(gelu_tanh(R(x · gateᵀ))) * R(x · upᵀ)); fused rows may leave out the inner roundings.
  virtual void gated_linear(ConstMat x, const LinearWeight& gate, const LinearWeight& up,
                            Mat y) = 0;

  /// z = ((rms_norm(x) * scale) * hidden^-1/2) · projᵀ; softmax over all experts; the top_k of it,
  /// renormalised, times per_expert_scale. All in F32 whatever the activation dtype. `logits` F32
  /// [tokens, experts] is written when data is not null.
  virtual void router(ConstMat x, const RouterWeights& weights, float eps, Routing routing,
                      Mat logits) = 0;

  /// y[t] = R(sum over the token's experts, best first, of weight * down_e · h_e),  h_e =
  /// R(gelu_tanh(gate_e · x) * up_e · x). Products and sum in F32. Each expert's weights are read
  /// once per call, and only if a token chose it.
  virtual void experts(ConstMat x, const Routing& routing, const ExpertWeights& weights, Mat y,
                       ExpertObserver observer) = 0;

  /// Each head of x [tokens, heads * head_dim]: y = rope(R(rms_norm(x, w))), positions on the host.
  /// w none: no factor. table without inv_freq: no rotation. y may be x.
  virtual void norm_rope(ConstMat x, std::int64_t heads, ParamVec w, float eps,
                         std::span<const std::int32_t> positions, const RopeTable& table,
                         Mat y) = 0;

  /// Writes the step's keys and values [tokens, kv_heads * head_dim] (normed, roped) into the
  /// cache.
  virtual void store_kv(ConstMat k, ConstMat v, const KvLayer& layer,
                        std::span<const SequenceRows> sequences) = 0;

  /// y = softmax over allowed keys of (q · k) times v, scale 1; q and y [tokens, heads * head_dim],
  /// query head h reads KV head h / (heads / kv_heads). The step's own keys are in the cache
  /// already.
  virtual void attention(ConstMat q, std::int64_t heads, const KvLayer& layer,
                         const AttentionStep& step, Mat y) = 0;

  /// y = R(R(gelu_tanh(a)) * b). y may be a.
  virtual void gelu_mul(ConstMat a, ConstMat b, Mat y) = 0;

  /// y = R(x * factor). y may be x.
  virtual void scale(ConstMat x, float factor, Mat y) = 0;

  /// y = R(R(a + b) * factor). y may be a or b.
  virtual void add(ConstMat a, ConstMat b, float factor, Mat y) = 0;

  /// x = cap * tanh(x / cap), F32 in place.
  virtual void soft_cap(Mat x, float cap) = 0;

  // --- for the image tower ---

  /// As norm_rope, in two dimensions: the first half of each head turns with the patch's column,
  /// the second with its row; inside a half lane j pairs with lane j + half/2. `table.head_dim` is
  /// the half. y may be x.
  virtual void norm_rope_2d(ConstMat x, std::int64_t heads, ParamVec w, float eps,
                            std::span<const std::int32_t> columns,
                            std::span<const std::int32_t> rows, const RopeTable& table, Mat y) = 0;

  /// y = softmax(q · k) times v, scale 1, every patch of an image with every patch of the same
  /// image; [patches, heads * head_dim].
  virtual void image_attention(ConstMat q, ConstMat k, ConstMat v, std::int64_t heads,
                               std::span<const PatchGrid> images, Mat y) = 0;

  /// y[cell] = R((R(mean of the cell's 3 x 3 patches) * factor - bias) * scale), in F32 inside;
  /// bias none: without both. Cells row-major per image, images one after the other.
  virtual void pool_patches(ConstMat x, std::span<const PatchGrid> images, float factor,
                            ParamVec bias, ParamVec scale, Mat y) = 0;

  /// y = min(max(x, low), high). y may be x.
  virtual void clamp(ConstMat x, float low, float high, Mat y) = 0;

  /// The largest |x|; NaN counts as infinity. For calibration.
  virtual float absmax(ConstMat x) = 0;
};

struct OpsOptions {
  DType activation_dtype = DType::kBF16;  ///< kF32: the scalar reference path, whatever the CPU
  Activations activations = Activations::kBF16;
};

/// CPU kernels, the fastest row of each family this machine has (or the level GEM8_ISA forces).
/// `pool` and `device` must outlive it. Error: kUnsupported when GEM8_ISA names a level this CPU
/// lacks.
Result<std::unique_ptr<Ops>> make_cpu_ops(Device& device, ThreadPool& pool,
                                          const OpsOptions& options);

}  // namespace gem8
