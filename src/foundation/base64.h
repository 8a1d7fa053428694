#pragma once

#include <cstddef>
#include <string_view>
#include <vector>

#include "foundation/result.h"

namespace gem8 {

/// The bytes of `text`: RFC 4648 base64, standard alphabet, padded, nothing between. Unused bits of
/// the last group are ignored, as most decoders do. Errors, fixed strings: kInvalidArgument;
/// kExhausted when the result would pass `max_bytes`, known from the length before anything is
/// decoded.
Result<std::vector<std::byte>> decode_base64(std::string_view text, std::size_t max_bytes);

}  // namespace gem8
