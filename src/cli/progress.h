#pragma once

#include <chrono>
#include <cstddef>
#include <string_view>

namespace gem8::cli {

/// How far a long piece of work is, on stderr: a bar that redraws itself on a terminal, else a line
/// every few seconds. Says nothing with --quiet.
class Progress {
 public:
  ~Progress();
  void show(std::string_view stage, std::size_t done, std::size_t total);

 private:
  using Clock = std::chrono::steady_clock;
  Clock::time_point start_ = Clock::now();
  Clock::time_point last_{};
  bool bar_ = false;  ///< one stands on the terminal
  std::string_view stage_;
};

}  // namespace gem8::cli
