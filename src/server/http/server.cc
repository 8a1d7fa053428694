#include "server/http/server.h"

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
#include <csignal>
#include <thread>
#include <unordered_map>
#include <vector>

#include "foundation/guarded.h"
#include "foundation/log.h"
#include "server/http/connection.h"

namespace gem8::http {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using boost::system::error_code;

constexpr auto kTuple = asio::as_tuple(asio::use_awaitable);

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
