#include "cli/command.h"

#include <cerrno>
#include <cstdio>
#include <cstring>

#include "foundation/thread_pool.h"
#include "text/unicode/utf8.h"

namespace gem8::cli {

std::size_t CommonOptions::thread_count() const {
  return threads != 0 ? threads : available_cores();
}

Result<std::string> read_stdin() {
  std::string text;
  char buffer[1 << 16];
  for (;;) {
    const std::size_t n = std::fread(buffer, 1, sizeof buffer, stdin);
    text.append(buffer, n);
    if (n < sizeof buffer) break;
  }
  if (std::ferror(stdin) != 0)
    return fail(Code::kInvalidArgument, "cannot read standard input: {}", std::strerror(errno));
  if (!utf8::is_valid(text))
    return fail(Code::kInvalidArgument, "standard input: not UTF-8, wanted text in UTF-8");
  return text;
}

Status write_stdout(std::string_view text) {
  if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size() || std::fflush(stdout) != 0) {
    return fail(errno == ENOSPC ? Code::kExhausted : Code::kUnavailable,
                "cannot write standard output: {}", std::strerror(errno));
  }
  return {};
}

}  // namespace gem8::cli
