#pragma once

#include <mutex>
#include <utility>

namespace gem8 {

/// A value with its mutex: the only way to it is through the lock.
template <class T>
class Guarded {
 public:
  Guarded() = default;
  explicit Guarded(T value) : value_(std::move(value)) {}

  template <class Body>
  decltype(auto) with(Body&& body) {
    const std::lock_guard lock(mutex_);
    return std::forward<Body>(body)(value_);
  }

 private:
  std::mutex mutex_;
  T value_;
};

}  // namespace gem8
