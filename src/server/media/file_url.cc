#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <optional>
#include <string>

#include "server/media/media_loader.h"
#include "server/media/percent_encoding.h"

namespace gem8 {
namespace {

class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  int get() const { return fd_; }
  std::string proc_path() const { return "/proc/self/fd/" + std::to_string(fd_); }

 private:
  int fd_;
};

/// The absolute path of file:/path, file:///path or file://localhost/path.
std::optional<std::string> path_of(std::string_view url) {
  std::string_view rest = url.substr(std::string_view("file:").size());
  if (rest.starts_with("//")) {
    rest.remove_prefix(2);
    if (rest.starts_with("localhost/")) rest.remove_prefix(std::string_view("localhost").size());
  }
  if (!rest.starts_with('/') || rest.starts_with("//")) return std::nullopt;
  return percent_decoded(rest);
}

bool lies_below(const std::filesystem::path& path, const std::filesystem::path& folder) {
  return std::ranges::mismatch(folder, path).in1 == folder.end();
}

}  // namespace

Result<std::vector<std::byte>> read_file_url(std::string_view url,
                                             const std::filesystem::path& folder,
                                             std::size_t max_bytes) {
  const auto refused = [] {
    return fail(Code::kInvalidArgument,
                "the URL names no regular file below --allowed-local-media-path");
  };
  const auto path = path_of(url);
  if (!path) return refused();

  // O_PATH follows every link but opens nothing; what it found is asked of the kernel, so no link
  // can be exchanged between the check and the reading.
  const Descriptor found(::open(path->c_str(), O_PATH | O_CLOEXEC));
  struct stat status {};
  if (found.get() < 0 || ::fstat(found.get(), &status) != 0 || !S_ISREG(status.st_mode)) {
    return refused();
  }
  std::error_code error;
  const auto real = std::filesystem::read_symlink(found.proc_path(), error);
  if (error || !lies_below(real, folder)) return refused();
  const Descriptor file(::open(found.proc_path().c_str(), O_RDONLY | O_CLOEXEC));
  if (file.get() < 0) return refused();

  if (static_cast<std::uint64_t>(status.st_size) > max_bytes) {
    return fail(Code::kExhausted, "the file is larger than {} bytes", max_bytes);
  }
  std::vector<std::byte> bytes(static_cast<std::size_t>(status.st_size));
  std::size_t n_read = 0;
  while (n_read < bytes.size()) {
    const ssize_t n = ::read(file.get(), bytes.data() + n_read, bytes.size() - n_read);
    if (n <= 0) break;
    n_read += static_cast<std::size_t>(n);
  }
  bytes.resize(n_read);
  return bytes;
}

}  // namespace gem8
