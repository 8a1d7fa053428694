#include "foundation/log.h"

#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>

#include <atomic>

namespace gem8 {
namespace {

// The process has one stderr; the level is the one setting the command line gives it.
std::atomic<LogLevel>& level_slot() {
  static std::atomic<LogLevel> level{LogLevel::kInfo};
  return level;
}

spdlog::logger& logger() {
  static const auto instance = [] {
    auto made = std::make_shared<spdlog::logger>(
        "gem8", std::make_shared<spdlog::sinks::stderr_color_sink_mt>());
    made->set_pattern("gem8: %v");
    made->set_level(spdlog::level::debug);
    made->flush_on(spdlog::level::debug);
    return made;
  }();
  return *instance;
}

}  // namespace

void set_log_level(LogLevel level) {
  level_slot() = level;
}
LogLevel log_level() {
  return level_slot();
}

void log_warning_line(std::string_view line) {
  logger().warn("warning: {}", line);
}
void log_info_line(std::string_view line) {
  logger().info("{}", line);
}
void log_verbose_line(std::string_view line) {
  logger().debug("{}", line);
}

}  // namespace gem8
