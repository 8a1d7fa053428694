#pragma once

#include <filesystem>
#include <vector>

#include "formats/checkpoint.h"
#include "foundation/json/json.h"
#include "foundation/result.h"
#include "quantize/token_sample.h"

namespace gem8 {

/// Finds the pictures that a line of chat data shows.
///
/// An image part says where its picture is, as the chat formats do: {"image_url": {"url"}} or
/// {"image_url"}, {"url"}, {"path"}, {"image"}; a part that does not takes the next of the line's
/// "images". Each is a data: URL or the path of a file, relative ones from the folder of the data.
class SampleImageReader {
 public:
  /// Error: kUnsupported for a model without an image tower; those of read_image_soft_tokens().
  static Result<SampleImageReader> create(const Checkpoint& checkpoint,
                                          const std::filesystem::path& folder);

  /// The pictures in the order of their parts, looked at but without a position yet. Errors:
  /// kInvalidArgument for a part without a picture, a picture without a part and an address that
  /// would have to be fetched; those of reading and decoding, naming the file.
  Result<std::vector<SampleImage>> read(const Json& line) const;

  /// Makes room for `images` in `tokens`, which have one placeholder each, and tells the images
  /// where. Errors: those of expand_images().
  Status place(std::vector<SampleImage>& images, std::vector<TokenId>& tokens) const;

 private:
  Result<SampleImage> open(const std::string& address) const;

  std::filesystem::path folder_;
  SpecialTokenIds tokens_;
  ImageFileOptions options_;
};

/// Whether a line has image parts or "images".
bool shows_images(const Json& line);

}  // namespace gem8
