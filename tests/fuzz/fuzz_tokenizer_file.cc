// Whatever a tokenizer.json holds: it loads or it is refused, and what loads encodes and decodes.
#include <cstdint>
#include <string_view>

#include "text/tokenizer/tokenizer.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto tokenizer = gem8::Tokenizer::parse({reinterpret_cast<const char*>(data), size});
  if (tokenizer)
    static_cast<void>(tokenizer->decode(
        tokenizer->encode("The user <bos> \xE4\xBD\xA0\n\n  {}\xF0\x9F\x98\x80")));
  return 0;
}
