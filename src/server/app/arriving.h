#pragma once

#include <functional>
#include <memory>
#include <utility>

#include "foundation/guarded.h"
#include "server/http/exchange.h"

namespace gem8::app {

/// A value that another thread makes while a route waits for it. The client may leave meanwhile,
/// and the route with it: then nobody looks at the value.
template <class T>
class Arriving {
 public:
  explicit Arriving(http::Exchange& exchange) : exchange_(exchange) {}

  /// For the other thread, to be called once.
  std::function<void(Result<T>)> receiver() const {
    return [slot = slot_, wake = exchange_.waker()](Result<T> value) {
      auto arrived = std::make_unique<Result<T>>(std::move(value));
      slot->with([&](std::unique_ptr<Result<T>>& to) { to = std::move(arrived); });
      wake();
    };
  }

  /// The value; or the error of Exchange::wait().
  http::Task<Result<T>> wait() {
    for (;;) {
      const auto value =
          slot_->with([](std::unique_ptr<Result<T>>& from) { return std::move(from); });
      if (value) co_return std::move(*value);
      const Status waited = co_await exchange_.wait();
      if (!waited) co_return std::unexpected(waited.error());
    }
  }

 private:
  using Slot = Guarded<std::unique_ptr<Result<T>>>;

  http::Exchange& exchange_;
  std::shared_ptr<Slot> slot_ = std::make_shared<Slot>();
};

}  // namespace gem8::app
