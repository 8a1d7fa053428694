#include "cli/progress.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>
#include <string>

#include "foundation/log.h"

namespace gem8::cli {

Progress::~Progress() {
  if (bar_) std::fputs("\r\x1b[K", stderr);
}

void Progress::show(std::string_view stage, std::size_t done, std::size_t total) {
  if (log_level() == LogLevel::kQuiet) return;
  const Clock::time_point now = Clock::now();
  const bool new_stage = stage != stage_;
  if (new_stage) start_ = now;
  stage_ = stage;
  const double seconds = std::chrono::duration<double>(now - start_).count();
  const std::string left =
      done > 0 ? fmt::format(", {:.0f} s left", seconds / static_cast<double>(done) *
                                                    static_cast<double>(total - done))
               : std::string();
  if (::isatty(STDERR_FILENO) == 1) {
    constexpr std::size_t kWidth = 30;
    const std::size_t full = total > 0 ? kWidth * done / total : 0;
    fmt::print(stderr, "\r\x1b[K{:<12} [{:<30}] {}/{}{}", stage, std::string(full, '#'), done,
               total, left);
    std::fflush(stderr);
    bar_ = true;
    return;
  }
  if (!new_stage && now - last_ < std::chrono::seconds(3)) return;
  last_ = now;
  log_info("{}: {} of {}{}", stage, done, total, left);
}

}  // namespace gem8::cli
