#include "model/vision/tower.h"

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <optional>

#include "formats/checkpoint.h"

namespace gem8 {
namespace {

/// A linear of the tower. E-type towers clamp what goes in and what comes out; for the others the
/// bounds are infinite.
struct ClippedLinear {
  LinearWeight weight;
  float input_min = -std::numeric_limits<float>::infinity();
  float input_max = std::numeric_limits<float>::infinity();
  float output_min = -std::numeric_limits<float>::infinity();
  float output_max = std::numeric_limits<float>::infinity();

  bool clips_input() const { return std::isfinite(input_min) || std::isfinite(input_max); }
  bool clips_output() const { return std::isfinite(output_min) || std::isfinite(output_max); }
};

struct VisionLayer {
  ParamVec input_norm, post_attention_norm, pre_mlp_norm, post_mlp_norm, q_norm, k_norm;
  ClippedLinear q, k, v, o, gate, up, down;
};

}  // namespace

struct VisionWeights {
  LinearWeight patch_projection;  // [hidden, 768]
  ConstMat position_tables;       // [2 * positions, hidden]: columns, then rows
  std::vector<VisionLayer> layers;
  ParamVec std_bias, std_scale;  // data null: not standardised
  LinearWeight projection;       // [text hidden, hidden]
  Buffer inv_freq_memory;
  std::vector<Buffer> owned;  // tensors that stand misaligned in the file
  RopeTable rope;
};

namespace {

/// Finds the tower's tensors by their canonical names and checks shape and dtype.
class Binder {
 public:
  Binder(const Checkpoint& checkpoint, Device& device, VisionWeights& weights)
      : checkpoint_(&checkpoint), device_(&device), weights_(&weights) {}

  Result<const TensorInfo*> tensor(const std::string& name,
                                   const std::vector<std::int64_t>& shape) {
    const TensorInfo* info = checkpoint_->find_multimodal(name);
    if (info == nullptr) return fail(Code::kNotFound, "tensor '{}' is missing", name);
    if (info->shape != shape) {
      return fail(Code::kCorrupt, "tensor '{}': shape [{}], config wants [{}]", name,
                  fmt::join(info->shape, ", "), fmt::join(shape, ", "));
    }
    if (info->dtype != DType::kBF16 && info->dtype != DType::kF32) {
      return fail(Code::kUnsupported,
                  "tensor '{}': found {}, wanted BF16 or F32: the vision tower is never quantised",
                  name, dtype_name(info->dtype));
    }
    return info;
  }

  Result<ParamVec> param(const std::string& name, std::int64_t size) {
    GEM8_TRY(const TensorInfo* info, tensor(name, {size}));
    GEM8_TRY(const void* address, bytes(*info));
    return ParamVec{address, info->dtype, size};
  }

  Result<LinearWeight> linear(const std::string& name, std::int64_t out, std::int64_t in) {
    GEM8_TRY(const TensorInfo* info, tensor(name, {out, in}));
    GEM8_TRY(const void* address, bytes(*info));
    return LinearWeight{.data = address, .dtype = info->dtype, .out = out, .in = in};
  }

  Result<ClippedLinear> clipped(const std::string& module, std::int64_t out, std::int64_t in,
                                bool clips) {
    ClippedLinear result;
    GEM8_TRY(result.weight, linear(module + ".linear.weight", out, in));
    if (clips) {
      GEM8_TRY(result.input_min, scalar(module + ".input_min", result.input_min));
      GEM8_TRY(result.input_max, scalar(module + ".input_max", result.input_max));
      GEM8_TRY(result.output_min, scalar(module + ".output_min", result.output_min));
      GEM8_TRY(result.output_max, scalar(module + ".output_max", result.output_max));
    }
    return result;
  }

  /// The device address. The file promises no alignment: kernels load whole elements, so a tensor
  /// that begins between two is copied.
  Result<const void*> bytes(const TensorInfo& info) {
    if (std::bit_cast<std::uintptr_t>(info.bytes.data()) % dtype_bytes(info.dtype) == 0)
      return device_->adopt(info.bytes);
    GEM8_TRY(Buffer buffer, device_->allocate(info.bytes.size()));
    device_->upload(buffer.address(), info.bytes);
    weights_->owned.push_back(std::move(buffer));
    return weights_->owned.back().address();
  }

 private:
  /// A bound that the file may leave out: then it is infinite.
  Result<float> scalar(const std::string& name, float fallback) {
    if (checkpoint_->find_multimodal(name) == nullptr) return fallback;
    GEM8_TRY(const TensorInfo* info, tensor(name, {}));
    float value = 0;
    BF16 half;
    if (info->dtype == DType::kF32) {
      std::memcpy(&value, info->bytes.data(), sizeof value);
      return value;
    }
    std::memcpy(&half, info->bytes.data(), sizeof half);
    return static_cast<float>(half);
  }

  const Checkpoint* checkpoint_;
  Device* device_;
  VisionWeights* weights_;
};

Result<VisionLayer> bind_layer(Binder& bind, const VisionConfig& vision, int index) {
  const std::string prefix = fmt::format("vision_tower.encoder.layers.{}.", index);
  const std::int64_t hidden = vision.hidden;
  const std::int64_t width = std::int64_t{vision.n_heads} * vision.head_dim;
  const bool clips = vision.use_clipped_linears;
  VisionLayer layer;
  GEM8_TRY(layer.input_norm, bind.param(prefix + "input_layernorm.weight", hidden));
  GEM8_TRY(layer.post_attention_norm,
           bind.param(prefix + "post_attention_layernorm.weight", hidden));
  GEM8_TRY(layer.pre_mlp_norm, bind.param(prefix + "pre_feedforward_layernorm.weight", hidden));
  GEM8_TRY(layer.post_mlp_norm, bind.param(prefix + "post_feedforward_layernorm.weight", hidden));
  GEM8_TRY(layer.q_norm, bind.param(prefix + "self_attn.q_norm.weight", vision.head_dim));
  GEM8_TRY(layer.k_norm, bind.param(prefix + "self_attn.k_norm.weight", vision.head_dim));
  GEM8_TRY(layer.q, bind.clipped(prefix + "self_attn.q_proj", width, hidden, clips));
  GEM8_TRY(layer.k, bind.clipped(prefix + "self_attn.k_proj", width, hidden, clips));
  GEM8_TRY(layer.v, bind.clipped(prefix + "self_attn.v_proj", width, hidden, clips));
  GEM8_TRY(layer.o, bind.clipped(prefix + "self_attn.o_proj", hidden, width, clips));
  GEM8_TRY(layer.gate, bind.clipped(prefix + "mlp.gate_proj", vision.ffn, hidden, clips));
  GEM8_TRY(layer.up, bind.clipped(prefix + "mlp.up_proj", vision.ffn, hidden, clips));
  GEM8_TRY(layer.down, bind.clipped(prefix + "mlp.down_proj", hidden, vision.ffn, clips));
  return layer;
}

/// theta^(-2j / n) for the n channels of one axis, in F32 as the reference computes it.
std::vector<float> axis_frequencies(double theta, std::int64_t channels) {
  std::vector<float> values(static_cast<std::size_t>(channels / 2));
  for (std::size_t j = 0; j < values.size(); ++j) {
    const float exponent = static_cast<float>(2 * j) / static_cast<float>(channels);
    values[j] = 1.0f / std::pow(static_cast<float>(theta), exponent);
  }
  return values;
}

/// An activation matrix with its memory.
struct Owned {
  Buffer memory;
  Mat mat;
};

Result<Owned> make_matrix(Ops& ops, std::int64_t rows, std::int64_t cols, DType dtype) {
  const auto bytes =
      static_cast<std::size_t>(rows) * static_cast<std::size_t>(cols) * dtype_bytes(dtype);
  GEM8_TRY(Buffer memory, ops.device().allocate(bytes));
  void* address = memory.address();
  return Owned{std::move(memory), Mat{address, dtype, rows, cols, cols}};
}

/// y = clip(x) · Wᵀ, clipped: one linear of the tower, through `clipped_input` when the input must
/// be clamped.
void apply(Ops& ops, const ClippedLinear& linear, ConstMat x, Mat clipped_input, Mat y) {
  if (linear.clips_input()) {
    clipped_input.rows = x.rows;
    clipped_input.cols = clipped_input.stride = x.cols;
    ops.clamp(x, linear.input_min, linear.input_max, clipped_input);
    x = clipped_input;
  }
  const LinearTask task{&linear.weight, y};
  ops.linear(x, {&task, 1});
  if (linear.clips_output()) ops.clamp(y, linear.output_min, linear.output_max, y);
}

/// [-1, 1] from [0, 1], in F32, rounded once to the activation dtype; uploaded.
void upload_pixels(Ops& ops, std::span<const Patches* const> images, const Mat& to) {
  std::int64_t row = 0;
  for (const Patches* image : images) {
    auto* address = static_cast<std::byte*>(to.data) +
                    static_cast<std::size_t>(row * to.stride) * dtype_bytes(to.dtype);
    if (to.dtype == DType::kF32) {
      std::vector<float> scaled(image->pixels.size());
      for (std::size_t i = 0; i < scaled.size(); ++i) scaled[i] = 2.0f * (image->pixels[i] - 0.5f);
      ops.device().upload(address, std::as_bytes(std::span(scaled)));
    } else {
      std::vector<BF16> scaled(image->pixels.size());
      for (std::size_t i = 0; i < scaled.size(); ++i)
        scaled[i] = BF16(2.0f * (image->pixels[i] - 0.5f));
      ops.device().upload(address, std::as_bytes(std::span(scaled)));
    }
    row += image->count();
  }
}

/// Where the patches of all images stand, for the ops that need positions or image borders.
struct Layout {
  std::int64_t patches = 0;
  std::int64_t soft_tokens = 0;
  std::vector<PatchGrid> grids;
  std::vector<std::int32_t> columns, rows;  // [patches]
  std::vector<std::int32_t> row_entries;    // [patches]: rows + table size
};

Result<Layout> lay_out(std::span<const Patches* const> images, std::int64_t table_size) {
  Layout layout;
  constexpr std::int64_t kCell = kPoolPatches * kPoolPatches;
  for (const Patches* image : images) {
    const std::int64_t n = image->count();
    if (n == 0 || image->columns <= 0 || n % image->columns != 0 ||
        image->columns % kPoolPatches != 0 || (n / image->columns) % kPoolPatches != 0 ||
        image->pixels.size() != static_cast<std::size_t>(n) * kPatchValues) {
      return fail(Code::kInvalidArgument,
                  "image of {} patches in rows of {} with {} pixel values: wanted a grid with "
                  "sides divisible by 3 and "
                  "768 values a patch",
                  n, image->columns, image->pixels.size());
    }
    layout.grids.push_back(
        {.first_row = layout.patches, .columns = image->columns, .rows = n / image->columns});
    for (std::int64_t i = 0; i < n; ++i) {
      const std::int64_t x = image->positions[static_cast<std::size_t>(2 * i)];
      const std::int64_t y = image->positions[static_cast<std::size_t>(2 * i + 1)];
      if (x != i % image->columns || y != i / image->columns || x >= table_size ||
          y >= table_size) {
        return fail(Code::kInvalidArgument, "patch {} at ({}, {}), wanted ({}, {}) below {}", i, x,
                    y, i % image->columns, i / image->columns, table_size);
      }
      layout.columns.push_back(static_cast<std::int32_t>(x));
      layout.rows.push_back(static_cast<std::int32_t>(y));
      layout.row_entries.push_back(static_cast<std::int32_t>(y + table_size));
    }
    layout.patches += n;
    layout.soft_tokens += n / kCell;
  }
  return layout;
}

Status bind_weights(const Checkpoint& checkpoint, Device& device, VisionWeights& weights) {
  const ModelConfig& config = checkpoint.config();
  const VisionConfig& vision = *config.vision;
  Binder bind(checkpoint, device, weights);
  GEM8_TRY(weights.patch_projection, bind.linear("vision_tower.patch_embedder.input_proj.weight",
                                                 vision.hidden, kPatchValues));
  GEM8_TRY(const TensorInfo* table,
           bind.tensor("vision_tower.patch_embedder.position_embedding_table",
                       {2, vision.position_embedding_size, vision.hidden}));
  GEM8_TRY(const void* table_address, bind.bytes(*table));
  weights.position_tables = {table_address, table->dtype,
                             2 * std::int64_t{vision.position_embedding_size}, vision.hidden,
                             vision.hidden};
  for (int i = 0; i < vision.n_layers; ++i) {
    GEM8_TRY(VisionLayer layer, bind_layer(bind, vision, i));
    weights.layers.push_back(layer);
  }
  if (vision.standardize) {
    GEM8_TRY(weights.std_bias, bind.param("vision_tower.std_bias", vision.hidden));
    GEM8_TRY(weights.std_scale, bind.param("vision_tower.std_scale", vision.hidden));
  }
  GEM8_TRY(weights.projection, bind.linear("embed_vision.embedding_projection.weight",
                                           config.text.hidden, vision.hidden));
  return {};
}

}  // namespace

VisionTower::VisionTower() = default;
VisionTower::~VisionTower() = default;

Result<std::unique_ptr<VisionTower>> VisionTower::load(std::shared_ptr<const Checkpoint> checkpoint,
                                                       Ops& ops) {
  const ModelConfig& config = checkpoint->config();
  if (!config.vision)
    return fail(Code::kUnsupported, "this checkpoint has no vision tower: images cannot be read");
  const VisionConfig& vision = *config.vision;
  if (vision.patch_size != kPatchPixels || vision.pooling_kernel_size != kPoolPatches) {
    return fail(Code::kUnsupported,
                "vision tower with {}-pixel patches pooled {} by {}, wanted {} and {}",
                vision.patch_size, vision.pooling_kernel_size, vision.pooling_kernel_size,
                kPatchPixels, kPoolPatches);
  }
  if (vision.n_kv_heads != vision.n_heads || vision.head_dim % 4 != 0) {
    return fail(Code::kUnsupported,
                "vision tower with {} heads of {} and {} key heads, wanted as many key heads and a "
                "head size divisible by 4",
                vision.n_heads, vision.head_dim, vision.n_kv_heads);
  }
  std::unique_ptr<VisionTower> tower(new VisionTower);
  tower->ops_ = &ops;
  tower->weights_ = std::make_unique<VisionWeights>();
  VisionWeights& weights = *tower->weights_;
  if (const Status bound = bind_weights(*checkpoint, ops.device(), weights); !bound)
    return checkpoint->refuse(bound.error());

  const std::vector<float> frequencies = axis_frequencies(vision.rope_theta, vision.head_dim / 2);
  GEM8_TRY(weights.inv_freq_memory, ops.device().allocate(frequencies.size() * sizeof(float)));
  ops.device().upload(weights.inv_freq_memory.address(), std::as_bytes(std::span(frequencies)));
  weights.rope = {static_cast<const float*>(weights.inv_freq_memory.address()),
                  vision.head_dim / 2};
  tower->checkpoint_ = std::move(checkpoint);
  return tower;
}

Result<SoftTokenMatrix> VisionTower::encode(std::span<const Patches* const> images,
                                            VisionObserver* observer) {
  Ops& ops = *ops_;
  const VisionConfig& vision = *checkpoint_->config().vision;
  const VisionWeights& weights = *weights_;
  const DType dtype = ops.activation_dtype();
  const std::int64_t hidden = vision.hidden;
  const std::int64_t width = std::int64_t{vision.n_heads} * vision.head_dim;
  const float eps = vision.rms_norm_eps;
  GEM8_TRY(const Layout layout, lay_out(images, vision.position_embedding_size));
  const auto matrix = [&](std::int64_t rows, std::int64_t cols) {
    return make_matrix(ops, rows, cols, dtype);
  };

  GEM8_TRY(const Owned pixels, matrix(layout.patches, kPatchValues));
  GEM8_TRY(const Owned x, matrix(layout.patches, hidden));
  GEM8_TRY(const Owned a, matrix(layout.patches, hidden));
  GEM8_TRY(const Owned b, matrix(layout.patches, hidden));
  GEM8_TRY(const Owned q, matrix(layout.patches, width));
  GEM8_TRY(const Owned k, matrix(layout.patches, width));
  GEM8_TRY(const Owned v, matrix(layout.patches, width));
  GEM8_TRY(const Owned heads_out, matrix(layout.patches, width));
  GEM8_TRY(const Owned gate, matrix(layout.patches, vision.ffn));
  GEM8_TRY(const Owned up, matrix(layout.patches, vision.ffn));
  GEM8_TRY(
      const Owned clipped,
      matrix(layout.patches,
             vision.use_clipped_linears ? std::max<std::int64_t>({hidden, width, vision.ffn}) : 1));

  // Patches: projected pixels plus a learned vector for the column and one for the row.
  upload_pixels(ops, images, pixels.mat);
  const LinearTask project{&weights.patch_projection, x.mat};
  ops.linear(pixels.mat, {&project, 1});
  ops.gather_rows(weights.position_tables, layout.columns, a.mat);
  ops.gather_rows(weights.position_tables, layout.row_entries, b.mat);
  ops.add(a.mat, b.mat, 1.0f, a.mat);
  ops.add(x.mat, a.mat, 1.0f, x.mat);
  if (observer != nullptr) observer->tensor(VisionTap::kPatchEmbed, 0, x.mat);

  for (std::size_t i = 0; i < weights.layers.size(); ++i) {
    const VisionLayer& layer = weights.layers[i];
    ops.rms_norm(x.mat, layer.input_norm, eps, a.mat);
    apply(ops, layer.q, a.mat, clipped.mat, q.mat);
    apply(ops, layer.k, a.mat, clipped.mat, k.mat);
    apply(ops, layer.v, a.mat, clipped.mat, v.mat);
    ops.norm_rope_2d(q.mat, vision.n_heads, layer.q_norm, eps, layout.columns, layout.rows,
                     weights.rope, q.mat);
    ops.norm_rope_2d(k.mat, vision.n_heads, layer.k_norm, eps, layout.columns, layout.rows,
                     weights.rope, k.mat);
    ops.norm_rope(v.mat, vision.n_heads, {}, eps, {},
                  {.inv_freq = nullptr, .head_dim = vision.head_dim}, v.mat);
    ops.image_attention(q.mat, k.mat, v.mat, vision.n_heads, layout.grids, heads_out.mat);
    apply(ops, layer.o, heads_out.mat, clipped.mat, a.mat);
    ops.norm_add(a.mat, layer.post_attention_norm, eps, x.mat, 1.0f, x.mat);

    ops.rms_norm(x.mat, layer.pre_mlp_norm, eps, a.mat);
    if (vision.use_clipped_linears) {
      apply(ops, layer.gate, a.mat, clipped.mat, gate.mat);
      apply(ops, layer.up, a.mat, clipped.mat, up.mat);
      ops.gelu_mul(gate.mat, up.mat, gate.mat);
    } else {
      ops.gated_linear(a.mat, layer.gate.weight, layer.up.weight, gate.mat);
    }
    apply(ops, layer.down, gate.mat, clipped.mat, b.mat);
    ops.norm_add(b.mat, layer.post_mlp_norm, eps, x.mat, 1.0f, x.mat);
    if (observer != nullptr)
      observer->tensor(VisionTap::kLayerOut, static_cast<std::int32_t>(i), x.mat);
  }

  // Soft tokens: the mean of 3 x 3 patches, scaled, standardised, normed and projected into the
  // text model.
  const auto root = static_cast<float>(std::sqrt(static_cast<double>(hidden)));
  GEM8_TRY(const Owned pooled, matrix(layout.soft_tokens, hidden));
  GEM8_TRY(Owned soft, matrix(layout.soft_tokens, checkpoint_->config().text.hidden));
  if (observer != nullptr) {
    ops.pool_patches(x.mat, layout.grids, root, {}, {}, pooled.mat);
    observer->tensor(VisionTap::kPooled, 0, pooled.mat);
  }
  ops.pool_patches(x.mat, layout.grids, root, weights.std_bias, weights.std_scale, pooled.mat);
  if (observer != nullptr) observer->tensor(VisionTap::kTower, 0, pooled.mat);
  ops.rms_norm(pooled.mat, {}, eps, pooled.mat);
  const LinearTask embed{&weights.projection, soft.mat};
  ops.linear(pooled.mat, {&embed, 1});
  return SoftTokenMatrix{std::move(soft.memory), soft.mat};
}

double VisionTower::flops(std::int64_t patches) const {
  const VisionConfig& vision = *checkpoint_->config().vision;
  const auto n = static_cast<double>(patches);
  const double hidden = vision.hidden;
  const double width = static_cast<double>(vision.n_heads) * vision.head_dim;
  const double layer = 2.0 * n * hidden * (4.0 * width + 3.0 * vision.ffn) + 4.0 * n * n * width;
  const double soft = n / (kPoolPatches * kPoolPatches);
  return vision.n_layers * layer + 2.0 * n * kPatchValues * hidden +
         2.0 * soft * hidden * checkpoint_->config().text.hidden;
}

}  // namespace gem8
