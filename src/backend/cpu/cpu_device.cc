#include <sys/mman.h>

#include <cstdlib>
#include <cstring>

#include "backend/device.h"

namespace gem8 {
namespace {

constexpr std::size_t kAlignment = 64;
// From here on whole pages come straight from the system: zeroed lazily, and in huge pages where it
// has them.
constexpr std::size_t kMapFromBytes = std::size_t{4} << 20;

class CpuDevice final : public Device {
 public:
  std::string_view name() const override { return "cpu"; }

  Result<Buffer> allocate(std::size_t bytes) override {
    if (bytes >= kMapFromBytes) {
      void* address =
          mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
      if (address == MAP_FAILED) return fail(Code::kExhausted, "no memory for {} bytes", bytes);
      static_cast<void>(madvise(address, bytes,
                                MADV_HUGEPAGE));  // advice only: refusal costs speed, nothing else
      return Buffer(*this, address, bytes);
    }
    const std::size_t rounded = (bytes / kAlignment + 1) * kAlignment;
    void* address = std::aligned_alloc(kAlignment, rounded);
    if (address == nullptr) return fail(Code::kExhausted, "no memory for {} bytes", bytes);
    std::memset(address, 0, rounded);
    return Buffer(*this, address, bytes);
  }

  Result<const void*> adopt(std::span<const std::byte> host) override { return host.data(); }

  void upload(void* to, std::span<const std::byte> from) override {
    if (!from.empty()) std::memcpy(to, from.data(), from.size());
  }

  void download(const void* from, std::span<std::byte> to) override {
    if (!to.empty()) std::memcpy(to.data(), from, to.size());
  }

 private:
  void release(void* address, std::size_t bytes) noexcept override {
    if (bytes >= kMapFromBytes) {
      munmap(address, bytes);
    } else {
      std::free(address);
    }
  }
};

}  // namespace

std::unique_ptr<Device> make_cpu_device() {
  return std::make_unique<CpuDevice>();
}

}  // namespace gem8
