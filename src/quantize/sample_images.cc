#include "quantize/sample_images.h"

#include <optional>

#include "formats/companion_configs.h"
#include "formats/data_url.h"
#include "foundation/mapped_file.h"
#include "text/chat/chat_template.h"
#include "text/chat/image_tokens.h"

namespace gem8 {
namespace {

const Json* list_of_images(const Json& line) {
  const Json* const images = line.find("images");
  return images != nullptr && !images->is_null() ? images : nullptr;
}

/// Where an image part says that its picture is.
std::optional<std::string> address_of(const Json& part) {
  for (const std::string_view key : {"image_url", "url", "path", "image"}) {
    const Json* value = part.find(key);
    if (value != nullptr && value->is_object()) value = value->find("url");
    if (value != nullptr && value->is_string()) return value->as_string();
  }
  return std::nullopt;
}

}  // namespace

bool shows_images(const Json& line) {
  const Json* const images = list_of_images(line);
  if (images != nullptr && !(images->is_array() && images->as_array().empty())) return true;
  const Json* const messages = line.find("messages");
  return messages != nullptr && !image_parts(*messages).empty();
}

Result<SampleImageReader> SampleImageReader::create(const Checkpoint& checkpoint,
                                                    const std::filesystem::path& folder) {
  const ModelConfig& config = checkpoint.config();
  if (!config.vision || config.text_only_class || !config.tokens.image) {
    return fail(Code::kUnsupported, "shows images, and this model reads none");
  }
  SampleImageReader reader;
  reader.folder_ = folder;
  reader.tokens_ = config.tokens;
  GEM8_TRY(reader.options_.soft_tokens, read_image_soft_tokens(checkpoint.dir(), config));
  return reader;
}

Result<SampleImage> SampleImageReader::open(const std::string& address) const {
  SampleImage image{.options = options_};
  if (is_data_url(address)) {
    GEM8_TRY(auto bytes, decode_data_url(address, ImageLimits{}.max_bytes));
    image.bytes = std::make_shared<const std::vector<std::byte>>(std::move(bytes));
    image.hash = sha256(*image.bytes);
  } else if (address.starts_with("http://") || address.starts_with("https://")) {
    return fail(Code::kInvalidArgument,
                "'{}': pictures of data are not fetched, wanted a file or a data: URL",
                address.substr(0, 100));
  } else {
    constexpr std::string_view kFileScheme = "file://";
    image.file = address.starts_with(kFileScheme) ? address.substr(kFileScheme.size()) : address;
    if (image.file.is_relative()) image.file = folder_ / image.file;
    GEM8_TRY(const MappedFile file, MappedFile::open(image.file));
    image.hash = sha256(file.bytes());
  }
  GEM8_TRY(const Patches patches, read_patches(image));
  image.n_tokens = patches.soft_tokens();
  return image;
}

Result<std::vector<SampleImage>> SampleImageReader::read(const Json& line) const {
  Json::Array listed;
  if (const Json* const images = list_of_images(line); images != nullptr) {
    if (!images->is_array()) {
      return fail(Code::kInvalidArgument, "'images': found {}, wanted a list of files",
                  images->kind_name());
    }
    listed = images->as_array();
  }
  std::vector<SampleImage> result;
  std::size_t next = 0;
  const Json* const messages = line.find("messages");
  for (const Json* const part :
       messages != nullptr ? image_parts(*messages) : std::vector<const Json*>()) {
    std::optional<std::string> address = address_of(*part);
    if (!address && next < listed.size() && listed[next].is_string()) {
      address = listed[next++].as_string();
    }
    if (!address) {
      return fail(Code::kInvalidArgument,
                  "image part {} names no picture, and 'images' has none left for it",
                  result.size());
    }
    GEM8_TRY(SampleImage image, open(*address));
    result.push_back(std::move(image));
  }
  if (next < listed.size()) {
    return fail(Code::kInvalidArgument, "'images' has {} pictures, {} image parts take one",
                listed.size(), next);
  }
  return result;
}

Status SampleImageReader::place(std::vector<SampleImage>& images,
                                std::vector<TokenId>& tokens) const {
  std::vector<std::int64_t> counts;
  for (const SampleImage& image : images) counts.push_back(image.n_tokens);
  GEM8_TRY(ExpandedPrompt expanded, expand_images(tokens, counts, tokens_));
  tokens = std::move(expanded.ids);
  for (std::size_t i = 0; i < images.size(); ++i) images[i].position = expanded.images[i].position;
  return {};
}

}  // namespace gem8
