#include "foundation/output_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <string>
#include <utility>

#include "foundation/mapped_file.h"

namespace gem8 {

namespace fs = std::filesystem;

Result<OutputFile> OutputFile::create(const fs::path& path) {
  if (path.empty())
    return fail(Code::kInvalidArgument, "an empty name, wanted the name of a file to write");
  OutputFile output;
  output.path_ = path;
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  if (fs::is_directory(status))
    return fail(Code::kInvalidArgument, "{}: a folder, wanted a file to write", path.string());
  int flags = O_WRONLY | O_CLOEXEC | O_NOCTTY;
  if (!fs::exists(status) || fs::is_regular_file(status)) {
    if (fs::is_symlink(fs::symlink_status(path, error)) && fs::exists(status))
      output.path_ = fs::canonical(path, error);
    output.temporary_ = output.path_.string() + fmt::format(".tmp-{}", ::getpid());
    flags |= O_CREAT | O_TRUNC;
  }
  const fs::path& opened = output.temporary_.empty() ? output.path_ : output.temporary_;
  output.file_ = ::open(opened.c_str(), flags, 0644);
  if (output.file_ < 0) return system_error("cannot create", path, errno);
  return output;
}

OutputFile::OutputFile(OutputFile&& other) noexcept {
  *this = std::move(other);
}

OutputFile& OutputFile::operator=(OutputFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(temporary_, other.temporary_);
  std::swap(file_, other.file_);
  return *this;
}

OutputFile::~OutputFile() {
  if (file_ < 0) return;
  ::close(file_);
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
}

Status OutputFile::write(std::span<const std::byte> bytes) {
  std::size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t n = ::write(file_, bytes.data() + done, bytes.size() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return system_error("cannot write", path_, errno);
    done += static_cast<std::size_t>(n);
  }
  return {};
}

Status OutputFile::finish() {
  if (!temporary_.empty()) {
    if (::fsync(file_) != 0) return system_error("cannot sync", path_, errno);
    if (::rename(temporary_.c_str(), path_.c_str()) != 0)
      return system_error("cannot rename into place", path_, errno);
  }
  ::close(std::exchange(file_, -1));
  return {};
}

Status write_file_atomically(const fs::path& path, std::span<const std::byte> bytes) {
  GEM8_TRY(OutputFile file, OutputFile::create(path));
  GEM8_RETURN_IF_ERROR(file.write(bytes));
  return file.finish();
}

Status write_file_atomically(const fs::path& path, std::string_view text) {
  return write_file_atomically(path, std::as_bytes(std::span(text.data(), text.size())));
}

Status check_writable(const fs::path& path) {
  GEM8_TRY(const OutputFile trial, OutputFile::create(path));
  return {};
}

}  // namespace gem8
