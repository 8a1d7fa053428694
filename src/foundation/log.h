#pragma once

#include <fmt/format.h>

#include <string_view>

namespace gem8 {

enum class LogLevel { kQuiet, kInfo, kVerbose };

/// What is said goes to stderr, one line each, never to stdout: stdout carries results.
void set_log_level(LogLevel level);
LogLevel log_level();

void log_warning_line(std::string_view line);
void log_info_line(std::string_view line);
void log_verbose_line(std::string_view line);

template <class... Args>
void log_warning(fmt::format_string<Args...> format, Args&&... args) {
  log_warning_line(fmt::format(format, std::forward<Args>(args)...));
}
template <class... Args>
void log_info(fmt::format_string<Args...> format, Args&&... args) {
  if (log_level() >= LogLevel::kInfo)
    log_info_line(fmt::format(format, std::forward<Args>(args)...));
}
template <class... Args>
void log_verbose(fmt::format_string<Args...> format, Args&&... args) {
  if (log_level() >= LogLevel::kVerbose)
    log_verbose_line(fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace gem8
