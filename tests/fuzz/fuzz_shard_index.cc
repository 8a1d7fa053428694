// Any bytes as an index: refused, or it survives being written and read again and names plain files
// only.
#include <cstdint>

#include "formats/shard_index.h"
#include "foundation/check.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto index = gem8::parse_shard_index({reinterpret_cast<const char*>(data), size});
  if (!index) return 0;
  for (const std::string& file : index->files()) {
    GEM8_CHECK(!file.empty() && file != ".." && file.find('/') == std::string::npos);
  }
  const auto again = gem8::parse_shard_index(gem8::to_text(*index));
  GEM8_CHECK(again && again->weight_map == index->weight_map &&
             again->total_size == index->total_size);
  return 0;
}
