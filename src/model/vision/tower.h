#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "backend/device.h"
#include "foundation/result.h"
#include "kernels/ops.h"
#include "model/vision/preprocess.h"

namespace gem8 {

class Checkpoint;
struct ModelConfig;
struct VisionWeights;

/// What a vision observer can see of one pass, rows of all images one after the other.
enum class VisionTap {
  kPatchEmbed,  ///< [patches, hidden] patch projection plus positions
  kLayerOut,    ///< [patches, hidden]
  kPooled,      ///< [soft tokens, hidden] mean of 3 x 3 patches times sqrt(hidden), before
                ///< standardisation
  kTower,  ///< [soft tokens, hidden] standardised where the model does, before the projection's
           ///< norm
};

class VisionObserver {
 public:
  virtual ~VisionObserver() = default;
  virtual void tensor(VisionTap tap, std::int32_t layer, ConstMat x) = 0;
};

/// Soft tokens of one or more images on the ops' device, and the memory they live in.
struct SoftTokenMatrix {
  Buffer memory;
  Mat rows;  ///< [soft tokens, text hidden], activation dtype; images in the order given
};

/// The Gemma 4 image tower and its projection into the text model: patches in, soft tokens out.
/// Always the checkpoint's bf16 (or F32) weights: quantisation leaves the tower alone.
class VisionTower {
 public:
  /// Finds and checks every tensor. Errors: kUnsupported when the checkpoint has no tower, or a
  /// quantised one; kNotFound names a missing tensor; kCorrupt one of another shape.
  static Result<std::unique_ptr<VisionTower>> load(std::shared_ptr<const Checkpoint> checkpoint,
                                                   Ops& ops);
  ~VisionTower();

  /// One pass over all images; each sees only itself. Errors: kInvalidArgument for a patch position
  /// beyond the position table or pixels of the wrong shape; kExhausted.
  Result<SoftTokenMatrix> encode(std::span<const Patches* const> images,
                                 VisionObserver* observer = nullptr);

  /// Floating-point operations of encode() for one image of so many patches.
  double flops(std::int64_t patches) const;

 private:
  VisionTower();

  Ops* ops_ = nullptr;
  std::shared_ptr<const Checkpoint> checkpoint_;
  std::unique_ptr<VisionWeights> weights_;
};

}  // namespace gem8
