#pragma once

/// GEM8_CHECK aborts for our own bugs; no input may reach it. GEM8_DCHECK is for hot paths and
/// exists with GEM8_CHECKS only.

namespace gem8::internal {
[[noreturn]] void check_failed(const char* condition, const char* file, int line);
}  // namespace gem8::internal

#define GEM8_CHECK(condition)         \
  ((condition) ? static_cast<void>(0) \
               : ::gem8::internal::check_failed(#condition, __FILE__, __LINE__))

#ifdef GEM8_CHECKS
#define GEM8_DCHECK(condition) GEM8_CHECK(condition)
#else
#define GEM8_DCHECK(condition) static_cast<void>(sizeof(condition))
#endif
