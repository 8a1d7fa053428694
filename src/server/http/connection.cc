#include "server/http/connection.h"

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/http.hpp>
#include <iterator>
#include <optional>
#include <vector>

#include "foundation/log.h"

namespace gem8::http {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace bhttp = boost::beast::http;
using asio::ip::tcp;
using boost::system::error_code;

constexpr auto kTuple = asio::as_tuple(asio::use_awaitable);

std::string address_text(const tcp::socket& socket) {
  error_code ec;
  const tcp::endpoint peer = socket.remote_endpoint(ec);
  if (ec) return "?";
  const std::string address = peer.address().to_string(ec);
  return peer.address().is_v6() ? fmt::format("[{}]:{}", address, peer.port())
                                : fmt::format("{}:{}", address, peer.port());
}

struct Refusal {
  int status = 400;
  std::string message;
};

/// Why a request must not be read on, though its header parses: where it ends, or for whom it is,
/// would be a matter of opinion, and a proxy in front of us may have another one (RFC 9112, 3.2,
/// 6.1 and 6.3). The answer closes the connection.
template <class Message>
std::optional<Refusal> objection_to(const Message& message, std::size_t max_headers) {
  const auto n_fields = std::distance(message.begin(), message.end());
  if (static_cast<std::size_t>(n_fields) > max_headers)
    return Refusal{431, "too many header fields"};
  if (message.version() >= 11 && message.count(bhttp::field::host) != 1)
    return Refusal{400, "a request of HTTP/1.1 needs one Host"};
  const auto [first, last] = message.equal_range(bhttp::field::transfer_encoding);
  if (first == last) return std::nullopt;
  if (message.count(bhttp::field::content_length) > 0)
    return Refusal{400, "Content-Length and Transfer-Encoding exclude each other"};
  if (message.version() < 11) return Refusal{400, "HTTP/1.0 has no Transfer-Encoding"};
  for (auto field = first; field != last; ++field) {
    if (!beast::iequals(field->value(), "chunked"))
      return Refusal{501, "of the transfer encodings only chunked is understood"};
  }
  return std::nullopt;
}

/// The target without the scheme and host that requests to proxies, and some clients, put in front
/// of it ("http://host:8000/v1/models").
std::string_view origin_form(std::string_view target) {
  for (const std::string_view scheme : {"http://", "https://"}) {
    if (!beast::iequals(target.substr(0, scheme.size()), scheme)) continue;
    const std::size_t path = target.find_first_of("/?", scheme.size());
    return path == std::string_view::npos ? "/" : target.substr(path);
  }
  return target;
}

}  // namespace

Connection::Connection(tcp::socket socket, std::shared_ptr<Shared> shared)
    : stream_(std::move(socket)), shared_(std::move(shared)), timer_(stream_.get_executor()) {
  error_code ignored;
  stream_.socket().set_option(tcp::no_delay(true), ignored);
  remote_ = address_text(stream_.socket());
}

Task<void> Connection::serve() {
  const auto self = shared_from_this();
  while (!shared_->draining && co_await serve_one()) {
  }
  error_code ignored;
  stream_.socket().shutdown(tcp::socket::shutdown_both, ignored);
  stream_.close();
}

void Connection::drain() {
  asio::post(executor(), [self = shared_from_this()] {
    if (self->idle_) self->stream_.close();
  });
}

void Connection::abort() {
  asio::post(executor(), [self = shared_from_this()] {
    self->give_up({Code::kUnavailable, "the server is shutting down", {}});
    self->stream_.close();
  });
}

Task<bool> Connection::serve_one() {
  const ServerOptions& options = shared_->options;
  idle_ = true;
  stream_.expires_after(options.idle_timeout);
  if (buffer_.size() == 0) {
    const auto [ec, n] = co_await stream_.async_read_some(buffer_.prepare(16 << 10), kTuple);
    if (ec) co_return false;
    buffer_.commit(n);
  }
  idle_ = false;

  bhttp::request_parser<bhttp::string_body> parser;
  parser.header_limit(static_cast<std::uint32_t>(options.max_header_bytes));
  parser.body_limit(options.max_body_bytes);
  reset_exchange();
  stream_.expires_after(options.header_timeout);
  error_code ec;
  std::tie(ec, std::ignore) = co_await bhttp::async_read_header(stream_, buffer_, parser, kTuple);
  if (!ec) {
    take_head(parser.get());
    if (auto objection = objection_to(parser.get(), options.max_headers))
      co_return co_await refuse(objection->status, std::move(objection->message));
    if (beast::iequals(parser.get()[bhttp::field::expect], "100-continue")) {
      stream_.expires_after(options.write_timeout);
      constexpr std::string_view kContinue = "HTTP/1.1 100 Continue\r\n\r\n";
      std::tie(ec, std::ignore) =
          co_await asio::async_write(stream_, asio::buffer(kContinue), kTuple);
      if (ec) co_return false;
    }
    stream_.expires_after(options.body_timeout);
    std::tie(ec, std::ignore) = co_await bhttp::async_read(stream_, buffer_, parser, kTuple);
  }
  if (ec == bhttp::error::end_of_stream || ec == asio::error::connection_reset) co_return false;
  if (ec == bhttp::error::header_limit || ec == bhttp::error::buffer_overflow) {
    co_return co_await refuse(
        431, fmt::format("the header is larger than {} bytes", options.max_header_bytes));
  }
  if (ec == bhttp::error::body_limit) {
    co_return co_await refuse(
        413, fmt::format("the body is larger than {} bytes", options.max_body_bytes));
  }
  if (ec == beast::error::timeout) co_return false;  // the stream is closed already
  if (ec && ec.category() == bhttp::make_error_code(bhttp::error::bad_method).category()) {
    if (ec == bhttp::error::partial_message) co_return false;
    co_return co_await refuse(400, fmt::format("this is not HTTP: {}", ec.message()));
  }
  if (ec) co_return false;
  request_.body = std::move(parser.get().body());

  stream_.expires_never();
  handling_ = true;
  if (!watching_) {
    watching_ = true;
    asio::co_spawn(executor(), watch(shared_from_this()), asio::detached);
  }
  bool threw = false;
  try {
    co_await shared_->handler(*this);
  } catch (const std::exception& error) {
    log_warning("{} {}: {}", request_.method, request_.path, error.what());
    threw = true;
  }
  ++exchange_number_;  // late wakers have nobody to wake
  handling_ = false;
  if (gone_) co_return false;
  if (threw || !answered_) {
    if (!answered_) co_return co_await refuse(500, "internal error");
    co_return false;
  }
  if (streaming_ && !finished_) co_return false;  // a body cut short must not look whole
  co_return keep_alive_;
}

void Connection::reset_exchange() {
  ++exchange_number_;
  request_ = {};
  request_.remote = remote_;
  version_ = 11;
  status_ = 0;
  keep_alive_ = answered_ = streaming_ = finished_ = chunked_ = woken_ = probe_due_ = false;
  idle_text_.clear();
  idle_seconds_ = 0;
}

template <class Message>
void Connection::take_head(const Message& message) {
  version_ = message.version();
  keep_alive_ = message.keep_alive();
  request_.method = std::string(message.method_string());
  const std::string_view target =
      origin_form(std::string_view(message.target().data(), message.target().size()));
  const std::size_t question = target.find('?');
  request_.path = std::string(target.substr(0, question));
  if (request_.path.empty()) request_.path = "/";
  if (question != std::string_view::npos) request_.query = std::string(target.substr(question + 1));
  for (const auto& field : message) {
    request_.headers.emplace_back(std::string(field.name_string()), std::string(field.value()));
  }
}

Task<bool> Connection::refuse(int status, std::string message) {
  keep_alive_ = false;
  const Status sent = co_await respond(shared_->options.error_response(status, std::move(message)));
  if (!sent) co_return false;
  error_code ec;
  stream_.socket().shutdown(tcp::socket::shutdown_send, ec);
  stream_.expires_after(std::chrono::seconds(2));
  std::vector<char> sink(64 << 10);
  while (!ec)
    std::tie(ec, std::ignore) = co_await stream_.async_read_some(asio::buffer(sink), kTuple);
  co_return false;
}

}  // namespace gem8::http
