// Any bytes encode; decoding gives the text back where it was valid and held no special token or
// U+2581.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "text/tokenizer/incremental_decoder.h"
#include "text/tokenizer/tokenizer.h"
#include "text/unicode/utf8.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const auto tokenizer = gem8::Tokenizer::load(GEM8_TEST_DATA "/golden/tokenizer/small");
  if (!tokenizer) std::abort();
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto ids = tokenizer->encode(text);
  const std::string back = tokenizer->decode(ids);
  if (gem8::utf8::is_valid(text) && text.find("\u2581") == std::string_view::npos && back != text)
    std::abort();
  gem8::IncrementalDecoder decoder(*tokenizer);
  std::string joined;
  for (const auto id : ids) {
    const std::string delta = decoder.feed(id);
    if (!gem8::utf8::is_valid(delta)) std::abort();
    joined += delta;
  }
  if (joined + decoder.flush() != back) std::abort();
  return 0;
}
