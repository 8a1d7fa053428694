#include "formats/data_url.h"

#include <algorithm>

#include "foundation/base64.h"

namespace gem8 {
namespace {

constexpr std::string_view kScheme = "data:";

char to_lower(char c) {
  return 'A' <= c && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
}

/// `prefix` and `suffix` in lower case.
bool starts_with_any_case(std::string_view text, std::string_view prefix) {
  return text.size() >= prefix.size() &&
         std::equal(prefix.begin(), prefix.end(), text.begin(),
                    [](char want, char found) { return want == to_lower(found); });
}

bool ends_with_any_case(std::string_view text, std::string_view suffix) {
  return text.size() >= suffix.size() &&
         starts_with_any_case(text.substr(text.size() - suffix.size()), suffix);
}

}  // namespace

bool is_data_url(std::string_view url) {
  return starts_with_any_case(url, kScheme);
}

Result<std::vector<std::byte>> decode_data_url(std::string_view url, std::size_t max_bytes) {
  if (!is_data_url(url)) return fail(Code::kInvalidArgument, "not a data: URL");
  const std::size_t comma = url.find(',');
  if (comma == std::string_view::npos) {
    return fail(Code::kInvalidArgument, "a data: URL without a comma");
  }
  if (!ends_with_any_case(url.substr(kScheme.size(), comma - kScheme.size()), ";base64")) {
    return fail(Code::kInvalidArgument, "a data: URL that is not base64");
  }
  return decode_base64(url.substr(comma + 1), max_bytes);
}

}  // namespace gem8
