// Any bytes as a safetensors file: reported on, and what is called sound lies within the file and
// covers it exactly when nothing was found.
#include <cstdint>

#include "formats/safetensors.h"
#include "foundation/check.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::span<const std::byte> file = std::as_bytes(std::span(data, size));
  const gem8::SafetensorsReport report = gem8::inspect_safetensors(file);
  std::uint64_t covered = 0;
  for (const gem8::TensorInfo& tensor : report.tensors) {
    GEM8_CHECK(gem8::tensor_bytes(tensor.dtype, tensor.shape) == tensor.bytes.size());
    GEM8_CHECK(tensor.bytes.data() >= file.data() &&
               tensor.bytes.data() + tensor.bytes.size() <= file.data() + file.size());
    covered += tensor.bytes.size();
  }
  GEM8_CHECK(report.tensors.size() <= report.names.size());
  if (report.findings.empty()) GEM8_CHECK(covered == report.data_bytes);
  return 0;
}
