#include "server/http/connection.h"

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/http.hpp>

#include "foundation/log.h"

namespace gem8::http {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace bhttp = boost::beast::http;
using boost::system::error_code;

constexpr auto kTuple = asio::as_tuple(asio::use_awaitable);

Error failed_io(const error_code& ec) {
  if (ec == beast::error::timeout) return {Code::kDeadline, "the client took too long", {}};
  return {Code::kCancelled, fmt::format("the client is gone: {}", ec.message()), {}};
}

}  // namespace

template <class Message>
void Connection::add_headers(Message& message, const Headers& headers,
                             const std::string& content_type) const {
  if (!content_type.empty()) message.set(bhttp::field::content_type, content_type);
  for (const auto& [name, value] : headers) message.set(name, value);
}

Task<Status> Connection::respond(Response response) {
  if (gone_) co_return std::unexpected(*gone_);
  bhttp::response<bhttp::string_body> message(static_cast<bhttp::status>(response.status),
                                              version_);
  message.reason(std::string(reason_phrase(response.status)));
  add_headers(message, response.headers, response.content_type);
  message.keep_alive(keep_alive_ && !shared_->draining);
  message.body() = std::move(response.body);
  message.prepare_payload();
  answered_ = true;
  status_ = response.status;
  keep_alive_ = message.keep_alive();
  log_access();
  stream_.expires_after(shared_->options.write_timeout);
  error_code ec;
  if (wants_head_only()) {
    bhttp::response_serializer<bhttp::string_body> serializer(message);
    std::tie(ec, std::ignore) = co_await bhttp::async_write_header(stream_, serializer, kTuple);
  } else {
    std::tie(ec, std::ignore) = co_await bhttp::async_write(stream_, message, kTuple);
  }
  co_return check_write(ec);
}

Task<Status> Connection::start_stream(StreamHead head) {
  if (gone_) co_return std::unexpected(*gone_);
  bhttp::response<bhttp::empty_body> message(static_cast<bhttp::status>(head.status), version_);
  message.reason(std::string(reason_phrase(head.status)));
  add_headers(message, head.headers, head.content_type);
  chunked_ = version_ >= 11;
  if (!chunked_) keep_alive_ = false;
  message.keep_alive(keep_alive_ && !shared_->draining);
  if (chunked_) message.chunked(true);
  answered_ = true;
  streaming_ = true;
  status_ = head.status;
  keep_alive_ = message.keep_alive();
  idle_text_ = std::move(head.idle_text);
  idle_seconds_ = head.idle_seconds;
  log_access();
  stream_.expires_after(shared_->options.write_timeout);
  bhttp::response_serializer<bhttp::empty_body> serializer(message);
  const auto [ec, n] = co_await bhttp::async_write_header(stream_, serializer, kTuple);
  co_return check_write(ec);
}

Task<Status> Connection::write(std::string_view text) {
  if (gone_) co_return std::unexpected(*gone_);
  // An empty chunk would end the body.
  if (text.empty() || wants_head_only()) co_return Status();
  stream_.expires_after(shared_->options.write_timeout);
  error_code ec;
  if (chunked_) {
    std::tie(ec, std::ignore) =
        co_await asio::async_write(stream_, bhttp::make_chunk(asio::buffer(text)), kTuple);
  } else {
    std::tie(ec, std::ignore) = co_await asio::async_write(stream_, asio::buffer(text), kTuple);
  }
  co_return check_write(ec);
}

Task<Status> Connection::finish() {
  if (gone_) co_return std::unexpected(*gone_);
  finished_ = true;
  if (!chunked_ || wants_head_only()) co_return Status();
  stream_.expires_after(shared_->options.write_timeout);
  const auto [ec, n] = co_await asio::async_write(stream_, bhttp::make_chunk_last(), kTuple);
  co_return check_write(ec);
}

Task<Status> Connection::wait() {
  while (!woken_) {
    if (gone_) co_return std::unexpected(*gone_);
    const bool pings = streaming_ && idle_seconds_ > 0 && !idle_text_.empty();
    timer_.expires_after(pings ? std::chrono::seconds(idle_seconds_) : std::chrono::hours(24));
    const auto [ec] = co_await timer_.async_wait(kTuple);
    const bool ping_due = pings && !ec && !woken_;
    if (gone_ || (!ping_due && !probe_due_)) continue;
    probe_due_ = false;
    if (streaming_) {
      if (Status sent = co_await write(idle_text_); !sent) co_return sent;
    } else if (version_ >= 11) {
      // An interim response: clients skip any number of them before the real one.
      stream_.expires_after(shared_->options.write_timeout);
      constexpr std::string_view kInterim = "HTTP/1.1 100 Continue\r\n\r\n";
      const auto [write_ec, n] =
          co_await asio::async_write(stream_, asio::buffer(kInterim), kTuple);
      if (Status sent = check_write(write_ec); !sent) co_return sent;
    } else {
      // HTTP/1.0 has no interim responses to find out with, and its clients, proxies above all, do
      // not close one side alone.
      give_up({Code::kCancelled, "the client is gone", {}});
    }
  }
  woken_ = false;
  if (gone_) co_return std::unexpected(*gone_);
  co_return Status();
}

std::function<void()> Connection::waker() {
  return [weak = weak_from_this(), exchange = exchange_number_] {
    const auto self = weak.lock();
    if (!self) return;
    asio::post(self->executor(), [self, exchange] {
      if (self->exchange_number_ != exchange) return;
      self->woken_ = true;
      self->timer_.cancel();
    });
  };
}

Status Connection::check_write(const error_code& ec) {
  if (!ec) return {};
  give_up(failed_io(ec));
  return std::unexpected(*gone_);
}

void Connection::give_up(Error error) {
  if (!gone_) gone_ = std::move(error);
  timer_.cancel();
}

void Connection::log_access() const {
  if (!shared_->options.access_log) return;
  log_info("INFO: {} - \"{} {} HTTP/{}.{}\" {} {}", remote_, request_.method, request_.path,
           version_ / 10, version_ % 10, status_, reason_phrase(status_));
}

}  // namespace gem8::http
