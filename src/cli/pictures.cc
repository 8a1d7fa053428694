#include "cli/pictures.h"

#include <memory>
#include <utility>

#include "cli/validators.h"
#include "formats/companion_configs.h"
#include "model/vision/image_file.h"
#include "server/app/prompt_images.h"
#include "server/media/media_loader.h"
#include "server/openai/chat_request.h"
#include "text/chat/chat_template.h"
#include "text/chat/image_tokens.h"

namespace gem8::cli {
namespace {

constexpr std::size_t kMaxPictures = 999;  // a command line is its user's own

AlphaPolicy alpha_of(const PictureOptions& options) {
  return options.alpha == "drop" ? AlphaPolicy::kDrop : AlphaPolicy::kWhite;
}

}  // namespace

void add_picture_options(CLI::App& command, PictureOptions& options) {
  command
      .add_option("--image", options.files,
                  "A picture that goes with it, or its patches as trace writes them (may be "
                  "repeated)")
      ->allow_extra_args(false);
  command
      .add_option("--image-tokens", options.soft_tokens,
                  "Soft tokens of a picture at most (default: the model's)")
      ->check(one_of({"70", "140", "280", "560", "1120"}));
  command
      .add_option("--alpha", options.alpha, "Transparency: white (on white, the default) or drop")
      ->check(one_of({"white", "drop"}));
}

void add_local_media_option(CLI::App& command, PictureOptions& options) {
  command.add_option("--allowed-local-media-path", options.local_folder,
                     "Folder that file: URLs of a request may point into (default: none)");
}

Result<std::vector<PreparedImage>> read_pictures(const PictureOptions& options, int soft_tokens) {
  const ImageFileOptions file_options{.soft_tokens = options.soft_tokens.value_or(soft_tokens),
                                      .alpha = alpha_of(options)};
  std::vector<PreparedImage> pictures;
  for (const std::string& file : options.files) {
    GEM8_TRY(Patches patches, read_image_file(file, file_options));
    pictures.push_back({std::make_shared<const Patches>(std::move(patches)), file});
  }
  return pictures;
}

Json user_request(std::string_view text, std::size_t n_pictures) {
  Json content = Json(text);
  if (n_pictures > 0) {
    content = Json::array();
    for (std::size_t i = 0; i < n_pictures; ++i) {
      content.push_back(
          Json::object({{"type", "image_url"}, {"image_url", Json::object({{"url", ""}})}}));
    }
    content.push_back(Json::object({{"type", "text"}, {"text", text}}));
  }
  return Json::object(
      {{"messages",
        Json::array({Json::object({{"role", "user"}, {"content", std::move(content)}})})}});
}

Status PicturePlacer::read_config() {
  if (!config_) {
    GEM8_TRY(config_, read_model_config(dir_));
    GEM8_TRY(soft_tokens_, read_image_soft_tokens(dir_, *config_));
  }
  if (!config_->vision || config_->text_only_class)
    return fail(Code::kUnsupported, "{}: this model takes no images", dir_.string());
  return {};
}

Result<std::vector<PreparedImage>> PicturePlacer::pictures_of(const Json& request) const {
  const Json* kwargs = request.find("mm_processor_kwargs");
  GEM8_TRY(const std::optional<int> of_request,
           parse_mm_processor_kwargs(kwargs != nullptr ? *kwargs : Json()));
  const int soft_tokens = options_.soft_tokens.value_or(of_request.value_or(soft_tokens_));
  if (!options_.files.empty()) return read_pictures(options_, soft_tokens);

  const Json* messages = request.find("messages");
  GEM8_TRY(const openai::ChatRequest parsed,
           openai::parse_chat_prompt(
               Json::object({{"messages", messages != nullptr ? *messages : Json()}})));
  std::vector<ImageSource> sources;
  for (const openai::ImagePart& part : parsed.images) sources.push_back({part.url, part.field});
  MediaSources allowed;
  allowed.local_folder = options_.local_folder;
  GEM8_TRY(MediaLoader loader, MediaLoader::create(std::move(allowed)));
  ImagePreparer preparer(
      std::move(loader),
      {.max_images = kMaxPictures, .soft_tokens = soft_tokens, .alpha = alpha_of(options_)});
  return preparer.prepare(sources);
}

Result<std::vector<PromptImage>> PicturePlacer::expand(const Json& request,
                                                       std::vector<TokenId>& ids) {
  const Json* messages = request.find("messages");
  const std::size_t n_pictures = messages != nullptr ? image_parts(*messages).size() : 0;
  if (n_pictures == 0 && options_.files.empty()) return std::vector<PromptImage>();
  if (!options_.files.empty() && options_.files.size() != n_pictures) {
    return fail(Code::kInvalidArgument, "--image: found {} files for {} pictures of the request",
                options_.files.size(), n_pictures);
  }
  GEM8_RETURN_IF_ERROR(read_config());
  GEM8_TRY(std::vector<PreparedImage> pictures, pictures_of(request));
  Result<std::vector<PromptImage>> placed =
      app::place_images(std::move(pictures), config_->tokens, ids);
  if (!placed) return fail_in(dir_.string(), std::move(placed).error());
  return placed;
}

Result<std::vector<PromptImage>> PicturePlacer::find(const std::vector<TokenId>& ids) {
  if (options_.files.empty()) return std::vector<PromptImage>();
  GEM8_RETURN_IF_ERROR(read_config());
  GEM8_TRY(std::vector<PreparedImage> pictures, read_pictures(options_, soft_tokens_));
  std::vector<std::int64_t> counts;
  for (const PreparedImage& picture : pictures) counts.push_back(picture.patches->soft_tokens());
  GEM8_TRY(const std::vector<PlaceholderRun> runs, find_images(ids, counts, config_->tokens));
  std::vector<PromptImage> placed;
  for (std::size_t i = 0; i < runs.size(); ++i) {
    placed.push_back({.position = runs[i].position,
                      .patches = std::move(pictures[i].patches),
                      .content_hash = std::move(pictures[i].content_hash)});
  }
  return placed;
}

}  // namespace gem8::cli
