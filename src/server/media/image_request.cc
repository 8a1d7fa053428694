#include "server/media/image_request.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>

#include "foundation/sha256.h"

namespace gem8 {
namespace {

constexpr std::int64_t kMaxImagesFlag = 999;  // vLLM's default

using RequestClock = std::chrono::steady_clock;

/// What is wrong with an image is wrong with the request that names it: not our disk or our memory,
/// and nothing that waiting would mend.
std::unexpected<Error> refuse(const ImageSource& source, Error error) {
  if (error.code != Code::kInternal) error.code = Code::kInvalidArgument;
  error.context = source.param;
  return std::unexpected(std::move(error));
}

bool is_budget(std::int64_t soft_tokens) {
  return std::ranges::find(kSoftTokenBudgets, soft_tokens) != kSoftTokenBudgets.end();
}

}  // namespace

Result<std::shared_ptr<const ImagePreparer::Entry>> ImagePreparer::prepare_file(
    std::span<const std::byte> file, const std::string& key, int soft_tokens,
    std::int64_t max_pixels) {
  if (auto entry = cache_.with([&](auto& cache) { return cache.find(key); })) {
    if (entry->pixels > max_pixels)
      return fail(Code::kExhausted, "the images of a request may have {} pixels together",
                  options_.max_request_pixels);
    return entry;
  }
  ImageLimits limits = options_.limits;
  limits.max_pixels = std::min(limits.max_pixels, max_pixels);
  GEM8_TRY(const Image image, decode_image(file, options_.alpha, limits));
  GEM8_TRY(Patches patches, preprocess_image(image, soft_tokens));
  const std::size_t bytes =
      patches.pixels.size() * sizeof(float) + patches.positions.size() * sizeof(std::int64_t);
  auto entry =
      std::make_shared<const Entry>(Entry{std::make_shared<const Patches>(std::move(patches)),
                                          std::int64_t{image.width} * image.height});
  cache_.with([&](auto& cache) { cache.insert(key, entry, bytes); });
  return entry;
}

Result<std::vector<PreparedImage>> ImagePreparer::prepare(std::span<const ImageSource> sources,
                                                          std::optional<int> soft_tokens) {
  if (sources.size() > options_.max_images) {
    return refuse(
        sources[options_.max_images],
        {Code::kInvalidArgument,
         fmt::format("At most {} image(s) may be provided in one prompt.", options_.max_images),
         {}});
  }
  const int budget = soft_tokens.value_or(options_.soft_tokens);
  const RequestClock::time_point deadline = RequestClock::now() + options_.request_timeout;
  std::int64_t pixels_left = options_.max_request_pixels;
  std::vector<PreparedImage> images;
  for (const ImageSource& source : sources) {
    if (RequestClock::now() > deadline) {
      return refuse(source, {Code::kDeadline,
                             fmt::format("the images of the request took longer than {} ms",
                                         options_.request_timeout.count()),
                             {}});
    }
    const auto file = loader_.load(source.url);
    if (!file) return refuse(source, file.error());
    std::string key = fmt::format("{}-{}-{}", to_hex(sha256(*file)), budget,
                                  options_.alpha == AlphaPolicy::kWhite ? "white" : "drop");
    const auto entry = prepare_file(*file, key, budget, pixels_left);
    if (!entry) return refuse(source, entry.error());
    pixels_left -= (*entry)->pixels;
    images.push_back({(*entry)->patches, std::move(key)});
  }
  return images;
}

Result<std::optional<int>> parse_mm_processor_kwargs(const Json& kwargs) {
  const auto bad = [](std::string message) {
    return std::unexpected(
        Error{Code::kInvalidArgument, std::move(message), "mm_processor_kwargs"});
  };
  if (kwargs.is_null()) return std::nullopt;
  if (!kwargs.is_object())
    return bad(fmt::format("found {}, wanted an object", kwargs.kind_name()));
  std::optional<int> budget;
  for (const JsonMember& member : kwargs.as_object()) {
    if (member.key != "max_soft_tokens") return bad("knows max_soft_tokens and nothing else");
    if (member.value.is_null()) continue;
    if (!member.value.is_int() || !is_budget(member.value.as_int())) {
      return bad(
          fmt::format("max_soft_tokens: wanted one of {}", fmt::join(kSoftTokenBudgets, ", ")));
    }
    budget = static_cast<int>(member.value.as_int());
  }
  return budget;
}

Result<std::optional<std::size_t>> parse_media_limits(std::string_view text) {
  const auto bad = [] {
    return fail(
        Code::kInvalidArgument,
        "--limit-mm-per-prompt: wanted a JSON object such as {{\"image\": 4}}, each limit 0 to {}",
        kMaxImagesFlag);
  };
  Json limits = Json::object();
  if (const auto json = parse_json(text); json && json->is_object()) {
    limits = *json;
  } else {
    for (std::string_view rest = text; !rest.empty();) {
      const std::string_view item = rest.substr(0, rest.find(','));
      rest.remove_prefix(std::min(item.size() + 1, rest.size()));
      const std::size_t equals = item.find('=');
      std::int64_t limit = 0;
      if (equals == std::string_view::npos) return bad();
      const std::string_view digits = item.substr(equals + 1);
      const auto read = std::from_chars(digits.data(), digits.data() + digits.size(), limit);
      if (read.ec != std::errc() || read.ptr != digits.data() + digits.size()) return bad();
      limits.set(item.substr(0, equals), limit);
    }
    if (limits.as_object().empty()) return bad();
  }
  std::optional<std::size_t> images;
  for (const JsonMember& limit : limits.as_object()) {
    // The newer form of vLLM: {"image": {"count": 4, "width": ...}}.
    const Json* count = limit.value.is_object() ? limit.value.find("count") : &limit.value;
    const bool is_known = limit.key == "image" || limit.key == "video" || limit.key == "audio";
    if (!is_known || count == nullptr || !count->is_int() || count->as_int() < 0 ||
        count->as_int() > kMaxImagesFlag)
      return bad();
    if (limit.key == "image") images = static_cast<std::size_t>(count->as_int());
  }
  return images;
}

}  // namespace gem8
