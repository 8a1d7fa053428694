#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string_view>

#include "foundation/result.h"

namespace gem8 {

class Device;

/// Memory on a device, owned; freed with the last of it. The address means something to that
/// device's kernels only.
class Buffer {
 public:
  Buffer() = default;
  Buffer(Device& device, void* address, std::size_t bytes)
      : device_(&device), address_(address), bytes_(bytes) {}
  Buffer(Buffer&& other) noexcept;
  Buffer& operator=(Buffer&& other) noexcept;
  ~Buffer();

  void* address() const { return address_; }
  std::size_t bytes() const { return bytes_; }

 private:
  Device* device_ = nullptr;
  void* address_ = nullptr;
  std::size_t bytes_ = 0;
};

/// Where tensors live. Nothing above the kernels may assume that an address can be dereferenced:
/// bytes cross by upload() and download(), and weights enter by adopt().
class Device {
 public:
  virtual ~Device() = default;

  virtual std::string_view name() const = 0;  ///< "cpu", "cuda:0"

  /// Zeroed memory, aligned to 64 bytes. Error: kExhausted.
  virtual Result<Buffer> allocate(std::size_t bytes) = 0;

  /// The device address of read-only host bytes that outlive every use of it. The CPU returns the
  /// same address (zero copy); another device copies and owns the copy. Error: kExhausted.
  virtual Result<const void*> adopt(std::span<const std::byte> host) = 0;

  virtual void upload(void* to, std::span<const std::byte> from) = 0;
  virtual void download(const void* from, std::span<std::byte> to) = 0;

 private:
  friend class Buffer;
  virtual void release(void* address, std::size_t bytes) noexcept = 0;
};

/// The host's own memory.
std::unique_ptr<Device> make_cpu_device();

}  // namespace gem8
