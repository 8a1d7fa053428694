#include "quantize/fingerprint.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>

namespace gem8 {

void Fingerprint::add(std::span<const std::byte> bytes) {
  for (const std::byte byte : bytes) {
    hash_ = (hash_ ^ static_cast<std::uint64_t>(byte)) * 0x100000001b3;
  }
}

void Fingerprint::add(std::string_view text) {
  add(std::uint64_t{text.size()});
  add(std::as_bytes(std::span(text)));
}

void Fingerprint::add(std::uint64_t number) {
  add(std::as_bytes(std::span(&number, 1)));
}

std::string Fingerprint::text() const {
  return fmt::format("{:016x}", hash_);
}

void add_checkpoint(const Checkpoint& checkpoint, Fingerprint& fingerprint) {
  fingerprint.add(to_text(checkpoint.config().raw));
  constexpr std::size_t kSample = 4096;
  for (const CheckpointTensor& tensor : checkpoint.tensors()) {
    const TensorInfo& info = *tensor.info;
    fingerprint.add(info.name);
    fingerprint.add(dtype_name(info.dtype));
    for (const std::int64_t side : info.shape) fingerprint.add(static_cast<std::uint64_t>(side));
    const std::size_t n = std::min(kSample, info.bytes.size());
    fingerprint.add(info.bytes.first(n));
    fingerprint.add(info.bytes.subspan((info.bytes.size() - n) / 2, n));
    fingerprint.add(info.bytes.last(n));
  }
  checkpoint.release();
}

void add_file_times(const Checkpoint& checkpoint, Fingerprint& fingerprint) {
  for (const std::string& name : checkpoint.shard_names()) {
    struct stat status = {};
    if (::stat((checkpoint.dir() / name).c_str(), &status) != 0) continue;
    fingerprint.add(static_cast<std::uint64_t>(status.st_size));
    fingerprint.add(static_cast<std::uint64_t>(status.st_mtim.tv_sec));
    fingerprint.add(static_cast<std::uint64_t>(status.st_mtim.tv_nsec));
  }
}

}  // namespace gem8
