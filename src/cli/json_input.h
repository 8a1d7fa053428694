#pragma once

#include <functional>
#include <string_view>
#include <vector>

#include "foundation/json/json.h"
#include "foundation/token_id.h"

namespace gem8::cli {

/// Calls `answer` for each line of standard input that is not blank, parsed as JSON, and prints
/// what it returns as one line. A line that is no JSON, or an error of `answer`, ends it: the error
/// names the line.
Status answer_lines(const std::function<Result<Json>(const Json& line)>& answer);

/// A list of token ids. Errors: kInvalidArgument.
Result<std::vector<TokenId>> ids_of(const Json& json);
Json json_of(const std::vector<TokenId>& ids);

}  // namespace gem8::cli
