#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "engine/request.h"
#include "foundation/guarded.h"

namespace gem8 {

/// Wakes a thread that has nothing to do. Signals are not counted.
class Signal {
 public:
  void set();
  void wait();
  /// False when the time has passed without a signal.
  bool wait_until(Clock::time_point deadline);

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool is_set_ = false;
};

/// The bounded way of a request's events from the engine to its reader, and of "nobody wants this
/// any more" back. When it is full the engine leaves the request out of its steps until the reader
/// catches up. One writer, one reader.
class TokenChannel {
 public:
  /// `engine` is set when the reader makes room in a full channel or cancels.
  TokenChannel(std::size_t capacity, std::shared_ptr<Signal> engine,
               std::function<void()> on_ready);

  // Writer.
  bool has_room();  ///< for a token; the end of the request always has room
  void push(const RequestTimes& times, std::optional<SampledToken> token,
            const std::vector<TokenLogprob>& top, std::optional<Finish> finish);
  bool cancelled() const { return cancelled_.load(std::memory_order_relaxed); }

  // Reader.
  /// Takes the oldest event, leaving the old content of `event` to be reused. False: none is there,
  /// and on_ready will be called.
  bool receive(TokenEvent& event);
  /// As receive(), but waits. False only when the deadline has passed.
  bool receive_until(TokenEvent& event, Clock::time_point deadline);
  void cancel();

 private:
  struct Ring {
    std::vector<TokenEvent> slots;
    std::size_t first = 0;
    std::size_t n_events = 0;
    bool reader_waits = false;
  };

  Guarded<Ring> ring_;
  Signal arrived_;
  std::shared_ptr<Signal> engine_;
  std::function<void()> on_ready_;
  std::atomic<bool> cancelled_{false};
};

}  // namespace gem8
