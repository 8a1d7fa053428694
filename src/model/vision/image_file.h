#pragma once

#include <filesystem>

#include "formats/image/image.h"
#include "foundation/result.h"
#include "model/vision/preprocess.h"

namespace gem8 {

/// How a picture becomes patches.
struct ImageFileOptions {
  int soft_tokens = 280;  ///< budget, one of kSoftTokenBudgets
  AlphaPolicy alpha = AlphaPolicy::kWhite;
};

/// A picture for the tower from a file of the user's own: an image as decode_image() reads it, or a
/// safetensors file with `pixels` F32 [patches, 768] and `positions` I64 [patches, 2] (alone or
/// under "images.0."), which then are the patches as they are: neither decoded nor resized.
/// Errors, all naming the file: those of reading, decoding and preprocessing; kCorrupt for tensors
/// of another type or shape, or patches that are no full grid in row-major order.
Result<Patches> read_image_file(const std::filesystem::path& path, const ImageFileOptions& options);

}  // namespace gem8
