// Any bytes as a data: URL: refused or decoded, within the limit; and base64 decodes to one text.
#include <cstdint>
#include <string_view>

#include "formats/data_url.h"
#include "foundation/check.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  constexpr std::size_t kMaxBytes = 1 << 16;
  const std::string_view url(reinterpret_cast<const char*>(data), size);
  const auto bytes = gem8::decode_data_url(url, kMaxBytes);
  if (bytes) {
    GEM8_CHECK(bytes->size() <= kMaxBytes);
    const std::size_t n_digits = size - url.find(',') - 1;
    GEM8_CHECK(n_digits % 4 == 0 && (bytes->size() + 2) / 3 == n_digits / 4);
  } else {
    GEM8_CHECK(bytes.error().code == gem8::Code::kInvalidArgument ||
               bytes.error().code == gem8::Code::kExhausted);
  }
  return 0;
}
