#pragma once

#include <cstddef>
#include <string_view>
#include <vector>

#include "foundation/result.h"

namespace gem8 {

/// Whether `url` begins with "data:", in any case.
bool is_data_url(std::string_view url);

/// The content of a base64 `data:` URL of any media type. Errors, fixed strings: kInvalidArgument,
/// kExhausted beyond `max_bytes`.
Result<std::vector<std::byte>> decode_data_url(std::string_view url, std::size_t max_bytes);

}  // namespace gem8
