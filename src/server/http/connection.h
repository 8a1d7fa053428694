#pragma once

#include <atomic>
#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "server/http/exchange.h"
#include "server/http/server.h"

namespace gem8::http {

/// What all connections of a server have in common.
struct Shared {
  ServerOptions options;
  Handler handler;
  std::atomic<bool> draining{false};
};

/// One client: its requests one after the other, each an Exchange for the handler. Everything runs
/// on its strand. Private to the server: Beast shows here and in the .cc files of this class only.
///
/// connection.cc reads requests, connection_answer.cc is the Exchange, connection_watch.cc notices
/// clients that leave meanwhile.
class Connection final : public Exchange, public std::enable_shared_from_this<Connection> {
 public:
  Connection(boost::asio::ip::tcp::socket socket, std::shared_ptr<Shared> shared);

  boost::asio::any_io_executor executor() { return stream_.get_executor(); }

  /// Requests one after the other until either side has had enough.
  Task<void> serve();
  /// No new request; an idle connection closes now. From any thread.
  void drain();
  /// Breaks off whatever is in progress. From any thread.
  void abort();

  const Request& request() const override { return request_; }
  Task<Status> respond(Response response) override;
  Task<Status> start_stream(StreamHead head) override;
  Task<Status> write(std::string_view text) override;
  Task<Status> finish() override;
  bool streaming() const override { return streaming_; }
  Task<Status> wait() override;
  std::function<void()> waker() override;

 private:
  /// False: the connection ends here.
  Task<bool> serve_one();
  void reset_exchange();
  template <class Message>
  void take_head(const Message& message);
  /// An answer of the transport itself. The client may still be sending: reading on for a moment
  /// lets it see the answer instead of a reset.
  Task<bool> refuse(int status, std::string message);

  /// Of a HEAD request the answer is the header that GET would have, and no byte more: the client
  /// takes the next one for the next answer.
  bool wants_head_only() const { return request_.method == "HEAD"; }

  template <class Message>
  void add_headers(Message& message, const Headers& headers, const std::string& content_type) const;
  Status check_write(const boost::system::error_code& ec);
  void give_up(Error error);
  void log_access() const;

  /// Notices a client that goes away while the handler is busy with something else than its socket.
  /// One for the connection at a time: it may outlive an exchange and then serves the next.
  static Task<void> watch(std::shared_ptr<Connection> self);
  /// The client has shut its side down, or has sent more bytes behind which it may do so: looks
  /// again and again. Ends with the exchange.
  Task<void> watch_for_end(boost::asio::steady_timer& pause);

  boost::beast::tcp_stream stream_;
  std::shared_ptr<Shared> shared_;
  boost::asio::steady_timer timer_;  // of wait(): cancelled by whatever should end it
  boost::beast::flat_buffer buffer_;
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

}  // namespace gem8::http
