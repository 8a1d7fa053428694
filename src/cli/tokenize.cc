// gem8 tokenize DIR: text to token ids and back.
#include <charconv>
#include <memory>
#include <string>

#include "cli/command.h"
#include "cli/json_input.h"
#include "cli/validators.h"
#include "formats/locate.h"
#include "text/tokenizer/tokenizer.h"

namespace gem8::cli {
namespace {

struct Options {
  std::string folder;
  bool decode = false;
  bool skip_special = false;
  bool lines = false;
  std::string format = "text";
};

Json encoded(const Tokenizer& tokenizer, std::string_view text) {
  const auto ids = tokenizer.encode(text);
  Json pieces = Json::array();
  for (const TokenId id : ids) pieces.push_back(Json(tokenizer.piece(id)));
  return Json::object({{"ids", json_of(ids)}, {"pieces", std::move(pieces)}});
}

Json decoded(const Tokenizer& tokenizer, const std::vector<TokenId>& ids, bool skip_special) {
  return Json::object({{"text", tokenizer.decode(ids, skip_special)}});
}

/// "[1, 2]" or "1 2", as tokenize prints them.
Result<std::vector<TokenId>> ids_in(std::string_view text) {
  if (text.find('[') != std::string_view::npos) {
    GEM8_TRY(const Json json, parse_json(text));
    return ids_of(json);
  }
  Json list = Json::array();
  for (const char* at = text.data(); at < text.data() + text.size();) {
    if (std::string_view(" \t\r\n,").find(*at) != std::string_view::npos) {
      ++at;
      continue;
    }
    std::int64_t id = 0;
    const auto [end, error] = std::from_chars(at, text.data() + text.size(), id);
    if (error != std::errc()) {
      return fail(Code::kInvalidArgument, "token ids: found '{}', wanted numbers",
                  std::string_view(at, 1));
    }
    list.push_back(id);
    at = end;
  }
  return ids_of(list);
}

Result<int> run_tokenize(const Options& options) {
  GEM8_TRY(const std::filesystem::path folder, resolve_model_dir(options.folder));
  GEM8_TRY(const Tokenizer tokenizer, Tokenizer::load(folder));
  if (options.lines) {
    GEM8_RETURN_IF_ERROR(answer_lines([&](const Json& line) -> Result<Json> {
      if (line.is_string() && !options.decode) return encoded(tokenizer, line.as_string());
      GEM8_TRY(const auto ids, ids_of(line));
      return decoded(tokenizer, ids, options.skip_special);
    }));
    return kDone;
  }
  GEM8_TRY(const std::string input, read_stdin());
  Json answer;
  if (options.decode) {
    GEM8_TRY(const auto ids, ids_in(input));
    answer = decoded(tokenizer, ids, options.skip_special);
  } else {
    answer = encoded(tokenizer, input);
  }
  std::string text;
  if (options.format == "json") {
    text = to_text(answer) + "\n";
  } else if (options.decode) {
    text = answer.find("text")->as_string();
  } else {
    for (const Json& id : answer.find("ids")->as_array())
      text += (text.empty() ? "" : " ") + fmt::format("{}", id.as_int());
    text += "\n";
  }
  GEM8_RETURN_IF_ERROR(write_stdout(text));
  return kDone;
}

}  // namespace

Command add_tokenize(CLI::App& app, const CommonOptions&) {
  const auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand(
      "tokenize", "Turn text on standard input into token ids, or ids into text");
  command->add_option("DIR", options->folder, "Checkpoint, or a folder with a tokenizer.json")
      ->required();
  command->add_flag("--decode", options->decode, "Read ids, print text");
  command->add_flag("--skip-special", options->skip_special,
                    "Leave special tokens out of decoded text");
  command->add_flag("--lines", options->lines,
                    "One JSON value a line in (text or list of ids), one JSON object a line out");
  command->add_option("--format", options->format, "text or json")->check(one_of({"text", "json"}));
  return {command, [options] { return run_tokenize(*options); }};
}

}  // namespace gem8::cli
