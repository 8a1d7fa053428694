#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "foundation/dtype.h"
#include "foundation/result.h"
#include "foundation/token_id.h"
#include "model/batch.h"
#include "model/model.h"
#include "model/observer.h"
#include "model/vision/tower.h"

namespace gem8 {

/// Everything a forward pass computed, to be written down as a safetensors file. As an Observer it
/// takes the text decoder's tensors: `embeddings`, `layers.{i}.output`,
/// `layers.{i}.router.{logits,experts,weights}`, `final_norm`, `logits`; add() takes any other.
/// Tensors of one name from several steps are joined along their rows.
class Trace : public Observer {
 public:
  explicit Trace(Device& device) : device_(device) {}

  /// Appends rows: F32 of any float matrix on the device or of values on the host, I64 of ids.
  void add(std::string_view name, ConstMat x);
  void add(std::string_view name, std::span<const float> values, std::int64_t cols);
  void add(std::string_view name, std::span<const std::int64_t> values, std::int64_t cols = 0);

  void tensor(Tap tap, std::int32_t layer, ConstMat x) override;
  void routing(std::int32_t layer, const Routing& chosen, ConstMat logits) override;

  /// Errors: those of SafetensorsWriter.
  Status write(const std::filesystem::path& path) const;

 private:
  struct Entry {
    std::string name;
    DType dtype = DType::kF32;
    std::int64_t rows = 0;
    std::int64_t cols = 0;  ///< 0: a vector
    std::vector<std::byte> bytes;
  };
  Entry& entry(std::string_view name, DType dtype, std::int64_t cols);

  Device& device_;
  std::vector<Entry> entries_;
};

/// One sequence through the model in steps of `chunk` tokens (0: one step), written down in `trace`
/// with its `tokens`. `soft` as in SequenceChunk, offsets counted from the first token; an image's
/// rows may not be cut by a step. Errors: those of Model::forward(); kInvalidArgument for no
/// tokens; kExhausted (memory).
Status trace_sequence(Model& model, std::span<const TokenId> tokens,
                      std::span<const SoftTokens> soft, std::int64_t chunk, Trace& trace);

/// Each image through the tower by itself, image j written down as `images.{j}.pixels`,
/// `.positions`, `.patch_embed`, `.layers.{i}.output`, `.pooled` and `.soft_tokens`. Gives their
/// soft tokens in order. Errors: those of VisionTower::encode().
Result<std::vector<SoftTokenMatrix>> trace_images(VisionTower& tower,
                                                  std::span<const Patches* const> images,
                                                  Trace& trace);

}  // namespace gem8
