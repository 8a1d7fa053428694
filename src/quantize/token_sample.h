#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <vector>

#include "foundation/result.h"
#include "foundation/sha256.h"
#include "foundation/token_id.h"
#include "model/vision/image_file.h"
#include "model/vision/tower.h"

namespace gem8 {

class Model;

/// A picture of a sample: where its soft tokens stand, and where its file comes from. Patches are
/// made when they are needed, so that memory does not grow with the number of pictures.
struct SampleImage {
  std::int64_t position = 0;   ///< of its first soft token in the sample
  std::int64_t n_tokens = 0;   ///< soft tokens
  std::filesystem::path file;  ///< empty: the file is `bytes`
  std::shared_ptr<const std::vector<std::byte>> bytes;
  Sha256 hash{};  ///< of the file
  ImageFileOptions options;

  std::int64_t end() const { return position + n_tokens; }
};

/// Tokens of one sequence, placeholders included, and the pictures that replace those, in order.
struct TokenSample {
  std::vector<TokenId> tokens;
  std::vector<SampleImage> images;
};

/// Shortens a sample to at most `max_tokens`, never inside a picture or between it and the tokens
/// that frame it.
void cut_sample(TokenSample& sample, std::size_t max_tokens);

/// A stretch of a sample that goes through a model in one step: text, or one whole picture.
struct SamplePiece {
  std::size_t first = 0;
  std::size_t count = 0;
  const SampleImage* image = nullptr;  ///< null: text
};

/// The whole sample in pieces, text in pieces of at most `max_text_tokens`. The pieces look into
/// the sample.
std::vector<SamplePiece> pieces_of(const TokenSample& sample, std::size_t max_text_tokens);

/// A text model with the tower that sees for it; null where there is none.
struct SeeingModel {
  Model* model = nullptr;
  VisionTower* tower = nullptr;
};

/// A picture's patches, read and decoded again. Errors: those of read_image_file().
Result<Patches> read_patches(const SampleImage& image);

/// A picture's soft tokens, as many as image.n_tokens. Errors: those of read_patches() and of the
/// tower; kCorrupt when the file has become another picture.
Result<SoftTokenMatrix> encode_image(VisionTower& tower, const SampleImage& image);

}  // namespace gem8
