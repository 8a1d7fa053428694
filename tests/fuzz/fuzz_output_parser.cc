// Any ids parse; the arguments of every call are JSON objects.
#include <cstdint>
#include <cstdlib>

#include "text/output/output_parser.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const auto tokenizer = gem8::Tokenizer::load(GEM8_TEST_DATA "/golden/tokenizer/small");
  static const gem8::Json tools = *gem8::parse_json(
      R"([{"type":"function","function":{"name":"f","parameters":{"type":"object","properties":{"a":{"type":"string"},"n":{"type":"integer"},"l":{"type":"array","items":{"type":"number"}},"o":{"type":["object","null"]}}}}}])");
  if (!tokenizer || size == 0) return 0;
  gem8::ParserOptions options;
  options.keep_partial_calls = (data[0] & 1) != 0;
  if ((data[0] & 2) != 0) options.tools = tools;
  if ((data[0] & 4) != 0) options.prompt_tail = tokenizer->encode("<|channel>thought\n");
  gem8::OutputParser parser(*tokenizer, std::move(options));
  std::size_t n_calls = 0;
  const auto check = [&](const gem8::OutputDelta& delta) {
    for (const gem8::ToolCallDelta& call : delta.tool_calls) {
      if (call.index != n_calls++) std::abort();
      const auto json = gem8::parse_json(call.arguments);
      if (!json || !json->is_object()) std::abort();
    }
  };
  const std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
  for (const auto id : tokenizer->encode(text)) check(parser.feed(id));
  check(parser.finish((data[0] & 8) != 0 ? gem8::EndedBy::kLength : gem8::EndedBy::kStopToken));
  return 0;
}
