#include "server/http/server.h"

#include <poll.h>
#include <sys/socket.h>

#include <atomic>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/strand.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <boost/beast/http.hpp>
#include <csignal>
#include <optional>
#include <thread>
#include <unordered_map>
#include <vector>

#include "foundation/guarded.h"
#include "foundation/log.h"

namespace gem8::http {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace bhttp = boost::beast::http;
using asio::ip::tcp;
using boost::system::error_code;

constexpr auto kTuple = asio::as_tuple(asio::use_awaitable);

/// After the peer has shut its side down, how long it may be merely half-closed before we write
/// something to find out. A closed client answers any byte with a reset; one that only said all it
/// had to say reads on.
constexpr std::chrono::milliseconds kProbeDelay{500};
constexpr std::chrono::milliseconds kResetPoll{100};

std::string address_text(const tcp::socket& socket) {
  error_code ec;
  const tcp::endpoint peer = socket.remote_endpoint(ec);
  if (ec) return "?";
  const std::string address = peer.address().to_string(ec);
  return peer.address().is_v6() ? fmt::format("[{}]:{}", address, peer.port())
                                : fmt::format("{}:{}", address, peer.port());
}

/// The reset has arrived: nobody is there.
bool was_reset(int fd) {
  pollfd poll_fd{fd, 0, 0};
  return ::poll(&poll_fd, 1, 0) > 0 && (poll_fd.revents & (POLLERR | POLLHUP)) != 0;
}

Error failed_io(const error_code& ec) {
  if (ec == beast::error::timeout) return {Code::kDeadline, "the client took too long", {}};
  return {Code::kCancelled, fmt::format("the client is gone: {}", ec.message()), {}};
}

struct Shared {
  ServerOptions options;
  Handler handler;
  std::atomic<bool> draining{false};
};

/// One client. Everything runs on its strand.
class Connection final : public Exchange, public std::enable_shared_from_this<Connection> {
 public:
  Connection(tcp::socket socket, std::shared_ptr<Shared> shared)
      : stream_(std::move(socket)), shared_(std::move(shared)), timer_(stream_.get_executor()) {
    error_code ignored;
    stream_.socket().set_option(tcp::no_delay(true), ignored);
    remote_ = address_text(stream_.socket());
  }

  asio::any_io_executor executor() { return stream_.get_executor(); }

  /// Requests one after the other until either side has had enough.
  Task<void> serve() {
    const auto self = shared_from_this();
    while (!shared_->draining && co_await serve_one()) {
    }
    error_code ignored;
    stream_.socket().shutdown(tcp::socket::shutdown_both, ignored);
    stream_.close();
  }

  /// No new request; an idle connection closes now.
  void drain() {
    asio::post(executor(), [self = shared_from_this()] {
      if (self->idle_) self->stream_.close();
    });
  }

  /// Breaks off whatever is in progress.
  void abort() {
    asio::post(executor(), [self = shared_from_this()] {
      self->give_up({Code::kUnavailable, "the server is shutting down", {}});
      self->stream_.close();
    });
  }

  // --- Exchange

  const Request& request() const override { return request_; }
  bool streaming() const override { return streaming_; }

  Task<Status> respond(Response response) override {
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
    const auto [ec, n] = co_await bhttp::async_write(stream_, message, kTuple);
    co_return check_write(ec);
  }

  Task<Status> start_stream(StreamHead head) override {
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

  Task<Status> write(std::string_view text) override {
    if (gone_) co_return std::unexpected(*gone_);
    if (text.empty()) co_return Status();  // an empty chunk would end the body
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

  Task<Status> finish() override {
    if (gone_) co_return std::unexpected(*gone_);
    finished_ = true;
    if (!chunked_) co_return Status();
    stream_.expires_after(shared_->options.write_timeout);
    const auto [ec, n] = co_await asio::async_write(stream_, bhttp::make_chunk_last(), kTuple);
    co_return check_write(ec);
  }

  Task<Status> wait() override {
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
      }
    }
    woken_ = false;
    if (gone_) co_return std::unexpected(*gone_);
    co_return Status();
  }

  std::function<void()> waker() override {
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

 private:
  template <class Message>
  void add_headers(Message& message, const Headers& headers,
                   const std::string& content_type) const {
    if (!content_type.empty()) message.set(bhttp::field::content_type, content_type);
    for (const auto& [name, value] : headers) message.set(name, value);
  }

  Status check_write(const error_code& ec) {
    if (!ec) return {};
    give_up(failed_io(ec));
    return std::unexpected(*gone_);
  }

  void give_up(Error error) {
    if (!gone_) gone_ = std::move(error);
    timer_.cancel();
  }

  void log_access() const {
    if (!shared_->options.access_log) return;
    log_info("INFO: {} - \"{} {} HTTP/{}.{}\" {} {}", remote_, request_.method, request_.path,
             version_ / 10, version_ % 10, status_, reason_phrase(status_));
  }

  /// False: the connection ends here.
  Task<bool> serve_one() {
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
    if (!ec && beast::iequals(parser.get()[bhttp::field::expect], "100-continue")) {
      stream_.expires_after(options.write_timeout);
      constexpr std::string_view kContinue = "HTTP/1.1 100 Continue\r\n\r\n";
      std::tie(ec, std::ignore) =
          co_await asio::async_write(stream_, asio::buffer(kContinue), kTuple);
      if (ec) co_return false;
    }
    if (!ec) {
      take_head(parser.get());
      if (request_.headers.size() > options.max_headers)
        co_return co_await refuse(431, "too many header fields");
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

  void reset_exchange() {
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
  void take_head(const Message& message) {
    version_ = message.version();
    keep_alive_ = message.keep_alive();
    request_.method = std::string(message.method_string());
    const std::string_view target(message.target().data(), message.target().size());
    const std::size_t question = target.find('?');
    request_.path = std::string(target.substr(0, question));
    if (question != std::string_view::npos)
      request_.query = std::string(target.substr(question + 1));
    for (const auto& field : message) {
      request_.headers.emplace_back(std::string(field.name_string()), std::string(field.value()));
    }
  }

  /// An answer of the transport itself. The client may still be sending: reading on for a moment
  /// lets it see the answer instead of a reset.
  Task<bool> refuse(int status, std::string message) {
    keep_alive_ = false;
    const Status sent =
        co_await respond(shared_->options.error_response(status, std::move(message)));
    if (!sent) co_return false;
    error_code ec;
    stream_.socket().shutdown(tcp::socket::shutdown_send, ec);
    stream_.expires_after(std::chrono::seconds(2));
    std::vector<char> sink(64 << 10);
    while (!ec)
      std::tie(ec, std::ignore) = co_await stream_.async_read_some(asio::buffer(sink), kTuple);
    co_return false;
  }

  /// Notices a client that goes away while the handler is busy with something else than its socket.
  /// One for the connection at a time: it may outlive an exchange and then serves the next.
  static Task<void> watch(std::shared_ptr<Connection> self) {
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

  /// The client has shut its side down, or has sent bytes of a next request that hide whether it
  /// did: only a reset tells that nobody reads. Ends with the exchange.
  Task<void> watch_for_reset(bool end_of_file, asio::steady_timer& pause) {
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

  beast::tcp_stream stream_;
  std::shared_ptr<Shared> shared_;
  asio::steady_timer timer_;  // of wait(): cancelled by whatever should end it
  beast::flat_buffer buffer_;
  std::string remote_;
  std::uint64_t exchange_number_ = 0;
  bool idle_ = true;
  bool handling_ = false;
  bool watching_ = false;
  std::optional<Error> gone_;

  // Of the exchange.
  Request request_;
  unsigned version_ = 11;
  int status_ = 0;
  bool keep_alive_ = false;
  bool answered_ = false;
  bool streaming_ = false;
  bool finished_ = false;
  bool chunked_ = false;
  bool woken_ = false;
  bool probe_due_ = false;
  std::string idle_text_;
  int idle_seconds_ = 0;
};

class TcpServer final : public Server {
 public:
  TcpServer(const ServerOptions& options)
      : shared_(std::make_shared<Shared>()),
        context_(static_cast<int>(options.n_threads)),
        acceptor_(asio::make_strand(context_)),
        signals_(acceptor_.get_executor()),
        drain_timer_(acceptor_.get_executor()) {
    shared_->options = options;
  }

  Status open() {
    const ServerOptions& options = shared_->options;
    error_code ec;
    tcp::resolver resolver(context_);
    const auto found =
        resolver.resolve(options.host, std::to_string(options.port), tcp::resolver::passive, ec);
    if (ec || found.empty())
      return fail(Code::kInvalidArgument, "host '{}': {}", options.host, ec.message());
    const tcp::endpoint endpoint = *found.begin();
    acceptor_.open(endpoint.protocol(), ec);
    if (!ec) acceptor_.set_option(tcp::acceptor::reuse_address(true), ec);
    if (!ec) acceptor_.bind(endpoint, ec);
    if (ec) return cannot_listen(ec);
    port_ = acceptor_.local_endpoint(ec).port();
    return {};
  }

  std::uint16_t port() const override { return port_; }

  Status listen() override {
    error_code ec;
    acceptor_.listen(asio::socket_base::max_listen_connections, ec);
    if (ec) return cannot_listen(ec);
    return {};
  }

  int run(Handler handler) override {
    shared_->handler = std::move(handler);
    error_code ignored;
    signals_.add(SIGINT, ignored);
    signals_.add(SIGTERM, ignored);
    asio::co_spawn(acceptor_.get_executor(), wait_for_signals(), asio::detached);
    asio::co_spawn(acceptor_.get_executor(), accept(), asio::detached);
    std::vector<std::jthread> threads;
    for (std::size_t i = 1; i < shared_->options.n_threads; ++i)
      threads.emplace_back([this] { context_.run(); });
    context_.run();
    threads.clear();
    return signal_;
  }

  void stop() override {
    asio::post(acceptor_.get_executor(), [this] { begin_drain(); });
  }

 private:
  std::unexpected<Error> cannot_listen(const error_code& ec) const {
    const ServerOptions& options = shared_->options;
    if (ec == asio::error::address_in_use) {
      return fail(Code::kUnavailable,
                  "port {} of {} is in use by another program: choose another with --port",
                  options.port, options.host);
    }
    return fail(Code::kInvalidArgument, "cannot listen on {}:{}: {}", options.host, options.port,
                ec.message());
  }

  Task<void> accept() {
    asio::steady_timer pause(acceptor_.get_executor());
    while (acceptor_.is_open()) {
      auto [ec, socket] = co_await acceptor_.async_accept(asio::make_strand(context_), kTuple);
      if (!acceptor_.is_open()) break;
      if (ec) {  // out of file descriptors, or a client gone before it was taken: try again a
                 // little later
        pause.expires_after(std::chrono::milliseconds(20));
        co_await pause.async_wait(kTuple);
        continue;
      }
      const bool full = connections_.with([&](auto& connections) {
        return connections.size() >= shared_->options.max_connections;
      });
      if (full) continue;  // closes it
      const auto connection = std::make_shared<Connection>(std::move(socket), shared_);
      connections_.with(
          [&](auto& connections) { connections.emplace(connection.get(), connection); });
      asio::co_spawn(connection->executor(), connection->serve(),
                     [this, key = connection.get()](std::exception_ptr error) {
                       if (error) log_warning("a connection ended with an exception");
                       const bool last = connections_.with([&](auto& connections) {
                         connections.erase(key);
                         return connections.empty();
                       });
                       if (last && shared_->draining)
                         asio::post(acceptor_.get_executor(), [this] { end(); });
                     });
    }
  }

  Task<void> wait_for_signals() {
    while (!ended_) {
      const auto [ec, number] = co_await signals_.async_wait(kTuple);
      if (ec) co_return;
      if (signal_ == 0) signal_ = number;
      if (shared_->draining) {
        abort_all();
      } else {
        log_info("{}: no new requests", number == SIGINT ? "SIGINT" : "SIGTERM");
        begin_drain();
      }
    }
  }

  void begin_drain() {
    if (shared_->draining.exchange(true)) return;
    error_code ignored;
    acceptor_.close(ignored);
    for (const auto& connection : all()) connection->drain();
    if (all().empty()) return end();
    drain_timer_.expires_after(shared_->options.drain_timeout);
    drain_timer_.async_wait([this](const error_code& ec) {
      if (!ec) abort_all();
    });
  }

  void abort_all() {
    for (const auto& connection : all()) connection->abort();
  }

  void end() {
    ended_ = true;
    error_code ignored;
    drain_timer_.cancel();
    signals_.cancel(ignored);
  }

  std::vector<std::shared_ptr<Connection>> all() {
    return connections_.with([](auto& connections) {
      std::vector<std::shared_ptr<Connection>> result;
      for (const auto& [key, weak] : connections) {
        if (auto connection = weak.lock()) result.push_back(std::move(connection));
      }
      return result;
    });
  }

  std::shared_ptr<Shared> shared_;
  asio::io_context context_;
  tcp::acceptor acceptor_;
  asio::signal_set signals_;
  asio::steady_timer drain_timer_;
  Guarded<std::unordered_map<Connection*, std::weak_ptr<Connection>>> connections_;
  std::uint16_t port_ = 0;
  int signal_ = 0;
  bool ended_ = false;  // of the acceptor's strand
};

}  // namespace

Result<std::unique_ptr<Server>> Server::bind(const ServerOptions& options) {
  auto server = std::make_unique<TcpServer>(options);
  GEM8_RETURN_IF_ERROR(server->open());
  return server;
}

}  // namespace gem8::http
