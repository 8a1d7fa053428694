#include "server/http/connection.h"

#include <poll.h>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <chrono>

namespace gem8::http {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;

constexpr auto kTuple = asio::as_tuple(asio::use_awaitable);

/// After the peer has shut its side down, how long it may be merely half-closed before we write
/// something to find out. A closed client answers any byte with a reset; one that only said all it
/// had to say reads on.
constexpr std::chrono::milliseconds kProbeDelay{500};
constexpr std::chrono::milliseconds kPollInterval{100};

enum class Peer { kThere, kShutDown, kReset };

/// What has become of the client's side. Unread bytes in front of its end do not hide it, as they
/// do from recv(): a stray line end, or a next request that nobody will collect.
Peer peer_of(int fd) {
  pollfd poll_fd{fd, POLLRDHUP, 0};
  if (::poll(&poll_fd, 1, 0) <= 0) return Peer::kThere;
  if ((poll_fd.revents & (POLLERR | POLLHUP)) != 0) return Peer::kReset;
  return (poll_fd.revents & POLLRDHUP) != 0 ? Peer::kShutDown : Peer::kThere;
}

}  // namespace

Task<void> Connection::watch(std::shared_ptr<Connection> self) {
  asio::steady_timer pause(self->executor());
  tcp::socket& socket = self->stream_.socket();
  for (;;) {
    const auto [ec] = co_await socket.async_wait(tcp::socket::wait_read, kTuple);
    if (ec || !self->handling_ || !socket.is_open()) break;
    co_await self->watch_for_end(pause);
    if (!self->handling_ || self->gone_) break;
  }
  self->watching_ = false;
}

Task<void> Connection::watch_for_end(asio::steady_timer& pause) {
  const std::uint64_t exchange = exchange_number_;
  std::optional<std::chrono::steady_clock::time_point> probe_at;
  bool probed = false;
  while (exchange == exchange_number_ && !gone_ && stream_.socket().is_open()) {
    const auto now = std::chrono::steady_clock::now();
    const Peer peer = peer_of(stream_.socket().native_handle());
    if (peer == Peer::kShutDown && !probe_at) probe_at = now + kProbeDelay;
    if (peer == Peer::kReset) {
      give_up({Code::kCancelled, "the client is gone", {}});
    } else if (probe_at && !probed && now >= *probe_at) {
      probed = true;  // the first byte after a close brings the reset
      probe_due_ = true;
      timer_.cancel();
    }
    pause.expires_after(kPollInterval);
    co_await pause.async_wait(kTuple);
  }
}

}  // namespace gem8::http
