#include "server/http/connection.h"

#include <poll.h>
#include <sys/socket.h>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <cerrno>
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
constexpr std::chrono::milliseconds kResetPoll{100};

/// The reset has arrived: nobody is there.
bool was_reset(int fd) {
  pollfd poll_fd{fd, 0, 0};
  return ::poll(&poll_fd, 1, 0) > 0 && (poll_fd.revents & (POLLERR | POLLHUP)) != 0;
}

}  // namespace

Task<void> Connection::watch(std::shared_ptr<Connection> self) {
  asio::steady_timer pause(self->executor());
  tcp::socket& socket = self->stream_.socket();
  for (;;) {
    const auto [ec] = co_await socket.async_wait(tcp::socket::wait_read, kTuple);
    if (ec || !self->handling_ || !socket.is_open()) break;
    char byte = 0;
    const ssize_t n = ::recv(socket.native_handle(), &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) continue;
    if (n < 0) {
      self->give_up({Code::kCancelled, "the client is gone", {}});
      break;
    }
    co_await self->watch_for_reset(n == 0, pause);
    if (!self->handling_) break;
  }
  self->watching_ = false;
}

Task<void> Connection::watch_for_reset(bool end_of_file, asio::steady_timer& pause) {
  const std::uint64_t exchange = exchange_number_;
  const auto probe_at = std::chrono::steady_clock::now() + kProbeDelay;
  bool probed = !end_of_file;
  while (exchange == exchange_number_ && !gone_) {
    pause.expires_after(kResetPoll);
    co_await pause.async_wait(kTuple);
    if (exchange != exchange_number_ || !stream_.socket().is_open()) break;
    if (was_reset(stream_.socket().native_handle())) {
      give_up({Code::kCancelled, "the client is gone", {}});
    } else if (!probed && std::chrono::steady_clock::now() >= probe_at) {
      probed = true;  // the first byte after a close brings the reset
      probe_due_ = true;
      timer_.cancel();
    }
  }
}

}  // namespace gem8::http
