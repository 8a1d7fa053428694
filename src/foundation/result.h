#pragma once

#include <fmt/format.h>

#include <expected>
#include <string>
#include <string_view>
#include <utility>

namespace gem8 {

/// Why something could not be done, chosen by what the caller can do about it.
enum class Code {
  kInvalidArgument,  ///< the request itself is wrong: ask differently
  kNotFound,         ///< the named thing does not exist
  kUnsupported,      ///< well-formed, but not something gem8 does
  kCorrupt,          ///< data that contradicts itself or its format
  kExhausted,        ///< disk, memory, queue or limit is full
  kCancelled,        ///< the caller went away or asked to stop
  kDeadline,         ///< it took too long
  kUnavailable,      ///< try again later
  kInternal,         ///< our bug, or the operating system's surprise
};

/// "kCorrupt" -> "corrupt": for logs and JSON, never for decisions.
std::string_view code_name(Code code);

/// A failure caused by the world. `message` names the thing, what was found and what was wanted;
/// `context` says where (a path, a tensor, a request field) and may be empty.
struct Error {
  Code code = Code::kInternal;
  std::string message;
  std::string context;

  /// "context: message", or the message alone.
  std::string text() const { return context.empty() ? message : context + ": " + message; }
};

template <class T>
using Result = std::expected<T, Error>;
using Status = Result<void>;

/// `return fail(Code::kCorrupt, "header of {} bytes, at most {}", n, limit);`
template <class... Args>
[[nodiscard]] std::unexpected<Error> fail(Code code, fmt::format_string<Args...> format,
                                          Args&&... args) {
  return std::unexpected(Error{code, fmt::format(format, std::forward<Args>(args)...), {}});
}

/// The same error, said of `context` ("in shard 3"): prepended to what is already there.
[[nodiscard]] inline std::unexpected<Error> fail_in(std::string_view context, Error error) {
  error.context =
      error.context.empty() ? std::string(context) : fmt::format("{}: {}", context, error.context);
  return std::unexpected(std::move(error));
}

}  // namespace gem8

#define GEM8_CONCAT_INNER(a, b) a##b
#define GEM8_CONCAT(a, b) GEM8_CONCAT_INNER(a, b)

/// GEM8_TRY(const auto x, f());  declares x from the value of f(), or returns f()'s error.
#define GEM8_TRY(declaration, ...) \
  GEM8_TRY_INNER(declaration, GEM8_CONCAT(gem8_try_, __LINE__), __VA_ARGS__)
#define GEM8_TRY_INNER(declaration, result, ...)                  \
  auto result = (__VA_ARGS__);                                    \
  if (!result) return std::unexpected(std::move(result).error()); \
  declaration = std::move(*result)

/// GEM8_RETURN_IF_ERROR(f());  for a Status.
#define GEM8_RETURN_IF_ERROR(...)                     \
  if (auto gem8_status = (__VA_ARGS__); !gem8_status) \
  return std::unexpected(std::move(gem8_status).error())
