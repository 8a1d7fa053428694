#include "cli/json_input.h"

#include "cli/command.h"
#include "foundation/json/json_lines.h"

namespace gem8::cli {

Status answer_lines(const std::function<Result<Json>(const Json& line)>& answer) {
  GEM8_TRY(const std::string input, read_stdin());
  JsonLines lines(input, {});
  for (;;) {
    GEM8_TRY(const std::optional<Json> value, lines.next());
    if (!value) return {};
    const auto answered = answer(*value);
    if (!answered) return fail_in(lines.where(), answered.error());
    GEM8_RETURN_IF_ERROR(write_stdout(to_text(*answered, {.ascii = true}) + "\n"));
  }
}

Result<std::vector<TokenId>> ids_of(const Json& json) {
  if (!json.is_array())
    return fail(Code::kInvalidArgument, "token ids: found {}, wanted array", json.kind_name());
  std::vector<TokenId> ids;
  for (const Json& id : json.as_array()) {
    if (!id.is_int() || id.as_int() < 0 || id.as_int() > INT32_MAX) {
      return fail(Code::kInvalidArgument, "token id: found {}, wanted an integer from 0",
                  to_text(id).substr(0, 40));
    }
    ids.push_back(static_cast<TokenId>(id.as_int()));
  }
  return ids;
}

Json json_of(const std::vector<TokenId>& ids) {
  Json out = Json::array();
  for (const TokenId id : ids) out.push_back(value_of(id));
  return out;
}

}  // namespace gem8::cli
