#include "cli/json_input.h"

#include "cli/command.h"

namespace gem8::cli {

Status answer_lines(const std::function<Result<Json>(const Json& line)>& answer) {
  GEM8_TRY(const std::string input, read_stdin());
  std::size_t number = 0;
  for (std::string_view rest = input; !rest.empty();) {
    const std::size_t end = rest.find('\n');
    const std::string_view line = rest.substr(0, end);
    rest.remove_prefix(end == std::string_view::npos ? rest.size() : end + 1);
    ++number;
    if (line.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    const auto value = parse_json(line);
    if (!value) return fail_in(fmt::format("line {}", number), value.error());
    const auto answered = answer(*value);
    if (!answered) return fail_in(fmt::format("line {}", number), answered.error());
    GEM8_RETURN_IF_ERROR(write_stdout(to_text(*answered, {.ascii = true}) + "\n"));
  }
  return {};
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
