#include "engine/channel.h"

#include <utility>

#include "foundation/check.h"

namespace gem8 {

void Signal::set() {
  {
    const std::lock_guard lock(mutex_);
    is_set_ = true;
  }
  changed_.notify_one();
}

void Signal::wait() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return is_set_; });
  is_set_ = false;
}

bool Signal::wait_until(Clock::time_point deadline) {
  std::unique_lock lock(mutex_);
  if (!changed_.wait_until(lock, deadline, [this] { return is_set_; })) return false;
  is_set_ = false;
  return true;
}

TokenChannel::TokenChannel(std::size_t capacity, std::shared_ptr<Signal> engine,
                           std::function<void()> on_ready)
    : engine_(std::move(engine)), on_ready_(std::move(on_ready)) {
  GEM8_CHECK(capacity >= 2);
  ring_.with([capacity](Ring& ring) { ring.slots.resize(capacity); });
}

bool TokenChannel::has_room() {
  return ring_.with([](const Ring& ring) { return ring.n_events + 1 < ring.slots.size(); });
}

void TokenChannel::push(const RequestTimes& times, std::optional<SampledToken> token,
                        const std::vector<TokenLogprob>& top, std::optional<Finish> finish) {
  const bool wake = ring_.with([&](Ring& ring) {
    GEM8_CHECK(ring.n_events < ring.slots.size());
    TokenEvent& slot = ring.slots[(ring.first + ring.n_events) % ring.slots.size()];
    slot.times = times;
    slot.token = token;
    slot.top.assign(top.begin(), top.end());
    slot.finish = std::move(finish);
    ++ring.n_events;
    return std::exchange(ring.reader_waits, false);
  });
  if (!wake) return;
  arrived_.set();
  if (on_ready_) on_ready_();
}

bool TokenChannel::receive(TokenEvent& event) {
  bool made_room = false;
  const bool received = ring_.with([&](Ring& ring) {
    if (ring.n_events == 0) {
      ring.reader_waits = true;
      return false;
    }
    made_room = ring.n_events + 1 >= ring.slots.size();
    std::swap(event, ring.slots[ring.first]);
    ring.first = (ring.first + 1) % ring.slots.size();
    --ring.n_events;
    return true;
  });
  if (made_room) engine_->set();
  return received;
}

bool TokenChannel::receive_until(TokenEvent& event, Clock::time_point deadline) {
  while (!receive(event)) {
    if (!arrived_.wait_until(deadline)) return receive(event);
  }
  return true;
}

void TokenChannel::cancel() {
  cancelled_.store(true, std::memory_order_relaxed);
  engine_->set();
}

}  // namespace gem8
