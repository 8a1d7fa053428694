#pragma once

#include <cstddef>
#include <cstdlib>
#include <memory>
#include <new>
#include <span>

namespace gem8 {

/// Scratch memory that grows to the largest request and is then reused: a step in steady state
/// allocates nothing. Contents do not survive a request for more. Aligned to 64 bytes. Not zeroed.
class Scratch {
 public:
  template <class T>
  T* get(std::size_t count) {
    const std::size_t bytes = count * sizeof(T);
    if (bytes > bytes_) grow(bytes);
    return static_cast<T*>(memory_.get());
  }

 private:
  struct Free {
    void operator()(void* memory) const { std::free(memory); }
  };

  void grow(std::size_t bytes) {
    // A quarter more than asked: a slowly growing batch does not reallocate at every step.
    const std::size_t rounded = (bytes + bytes / 4 + 4096) / 4096 * 4096;
    memory_.reset();
    bytes_ = 0;
    void* memory = std::aligned_alloc(4096, rounded);
    if (memory == nullptr) throw std::bad_alloc();
    memory_.reset(memory);
    bytes_ = rounded;
  }

  std::unique_ptr<void, Free> memory_;
  std::size_t bytes_ = 0;
};

}  // namespace gem8
