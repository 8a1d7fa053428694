#pragma once

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <string>
#include <thread>
#include <vector>

namespace gem8::testing {

/// `gem8 serve` as its users start it, on a free port of the loopback interface. Its log is kept.
class ServerProcess {
 public:
  /// Returns when the server is ready, or failed (then ready() is false).
  explicit ServerProcess(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), {GEM8_BINARY, "serve"});
    for (const char* more : {"--host", "127.0.0.1", "--port", "0", "--threads", "2"})
      arguments.emplace_back(more);
    std::vector<char*> argv;
    for (std::string& argument : arguments) argv.push_back(argument.data());
    argv.push_back(nullptr);
    int log[2];
    EXPECT_EQ(::pipe(log), 0);
    pid_ = ::fork();
    if (pid_ == 0) {
      ::dup2(log[1], STDERR_FILENO);
      ::close(log[0]);
      ::close(log[1]);
      ::execv(argv[0], argv.data());
      ::_exit(127);
    }
    ::close(log[1]);
    log_fd_ = log[0];
    while (port_ == 0 && read_log()) find_port();
    // The log goes on being read, or a full pipe would hold the server up.
    if (ready()) {
      reader_ = std::thread([this] {
        while (read_log()) {
        }
      });
    }
  }
  ServerProcess(const ServerProcess&) = delete;
  ServerProcess& operator=(const ServerProcess&) = delete;
  ~ServerProcess() { stop(); }

  bool ready() const { return port_ != 0; }
  std::uint16_t port() const { return port_; }

  /// Ends it with SIGTERM; its exit status, or minus the signal that killed it.
  int stop() {
    if (pid_ <= 0) return exit_status_;
    ::kill(pid_, SIGTERM);
    int status = 0;
    ::waitpid(pid_, &status, 0);
    pid_ = 0;
    if (reader_.joinable()) reader_.join();
    ::close(log_fd_);
    exit_status_ = WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
    return exit_status_;
  }
  /// What it wrote to stderr; after stop(), or when it never was ready.
  const std::string& log() const { return log_; }

 private:
  bool read_log() {
    char bytes[4096];
    const ssize_t n = ::read(log_fd_, bytes, sizeof bytes);
    if (n <= 0) return false;
    log_.append(bytes, static_cast<std::size_t>(n));
    return true;
  }

  void find_port() {
    const std::string mark = "running on http://127.0.0.1:";
    const std::size_t at = log_.find(mark);
    if (at == std::string::npos || log_.find('\n', at) == std::string::npos) return;
    port_ = static_cast<std::uint16_t>(std::atoi(log_.c_str() + at + mark.size()));
  }

  pid_t pid_ = 0;
  int log_fd_ = -1;
  int exit_status_ = 0;
  std::uint16_t port_ = 0;
  std::string log_;
  std::thread reader_;
};

}  // namespace gem8::testing
