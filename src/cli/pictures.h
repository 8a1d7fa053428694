#pragma once

#include <CLI/CLI.hpp>

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/request.h"
#include "formats/model_config.h"
#include "foundation/json/json.h"
#include "server/media/image_request.h"

namespace gem8::cli {

/// What a command line says about the pictures of a prompt.
struct PictureOptions {
  std::vector<std::string> files;  ///< stand for the prompt's pictures, in order
  std::optional<int> soft_tokens;  ///< budget of each; absent: the request's, else the model's
  std::string alpha = "white";
  std::string local_folder;  ///< where a request's file: URLs may point; empty: nowhere
};

/// --image, --image-tokens, --alpha.
void add_picture_options(CLI::App& command, PictureOptions& options);
/// --allowed-local-media-path, for commands that read chat requests.
void add_local_media_option(CLI::App& command, PictureOptions& options);

/// The patches of options.files; the budget is `soft_tokens` unless the options name one.
Result<std::vector<PreparedImage>> read_pictures(const PictureOptions& options, int soft_tokens);

/// A chat request of one user message: n pictures, then the text.
Json user_request(std::string_view text, std::size_t n_pictures);

/// Brings together rendered prompts of one checkpoint and their pictures.
class PicturePlacer {
 public:
  PicturePlacer(std::filesystem::path dir, const PictureOptions& options)
      : dir_(std::move(dir)), options_(options) {}

  /// Makes room in `ids`, which `request` was rendered and encoded to, for its pictures: the files
  /// of the options or else what its image parts point to (data: URLs, files of the allowed
  /// folder). A request without pictures is left alone. Errors: kUnsupported for a model that takes
  /// none; those of reading a picture, naming the file or the field; those of expand_images().
  Result<std::vector<PromptImage>> expand(const Json& request, std::vector<TokenId>& ids);

  /// The same for ids that have room for the files already.
  Result<std::vector<PromptImage>> find(const std::vector<TokenId>& ids);

 private:
  Status read_config();
  Result<std::vector<PreparedImage>> pictures_of(const Json& request) const;

  std::filesystem::path dir_;
  const PictureOptions& options_;
  std::optional<ModelConfig> config_;
  int soft_tokens_ = 0;
};

}  // namespace gem8::cli
