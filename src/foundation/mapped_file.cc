#include "foundation/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace gem8 {
namespace {

struct FileDescriptor {
  int value = -1;
  ~FileDescriptor() {
    if (value >= 0) ::close(value);
  }
};

}  // namespace

std::unexpected<Error> system_error(std::string_view what, const std::filesystem::path& path,
                                    int error_number) {
  const Code code = error_number == ENOENT || error_number == ENOTDIR ? Code::kNotFound
                    : error_number == ENOSPC || error_number == EDQUOT || error_number == ENOMEM
                        ? Code::kExhausted
                        : Code::kInvalidArgument;
  return std::unexpected(
      Error{code, fmt::format("{}: {}", what, std::strerror(error_number)), path.string()});
}

Result<MappedFile> MappedFile::open(const std::filesystem::path& path) {
  // Not to wait at a pipe that nobody writes to: it is refused below, like all that is no file.
  const FileDescriptor file{::open(path.c_str(), O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC)};
  if (file.value < 0) return system_error("cannot open", path, errno);
  struct stat status {};
  if (::fstat(file.value, &status) != 0) return system_error("cannot stat", path, errno);
  if (!S_ISREG(status.st_mode)) {
    return std::unexpected(Error{Code::kInvalidArgument, "not a regular file", path.string()});
  }
  MappedFile mapped;
  mapped.size_ = static_cast<std::size_t>(status.st_size);
  if (mapped.size_ == 0) return mapped;
  void* address = ::mmap(nullptr, mapped.size_, PROT_READ, MAP_SHARED, file.value, 0);
  if (address == MAP_FAILED) {
    mapped.size_ = 0;
    return system_error("cannot map", path, errno);
  }
  mapped.data_ = static_cast<const std::byte*>(address);
  return mapped;
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::munmap(const_cast<std::byte*>(data_), size_);
}

void MappedFile::release(std::span<const std::byte> part) const {
  if (data_ == nullptr || part.data() < data_ || part.data() >= data_ + size_) return;
  const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  const auto offset = static_cast<std::size_t>(part.data() - data_);
  const std::size_t begin = (offset + page - 1) / page * page;
  const std::size_t last = std::min(offset + part.size(), size_);
  // The file's last page counts as whole: nothing else is in it.
  const std::size_t end = last == size_ ? last : last / page * page;
  if (end <= begin) return;
  ::madvise(const_cast<std::byte*>(data_) + begin, end - begin, MADV_DONTNEED);
}

Result<std::string> read_text_file(const std::filesystem::path& path, std::size_t max_bytes) {
  GEM8_TRY(const MappedFile file, MappedFile::open(path));
  if (file.bytes().size() > max_bytes) {
    return std::unexpected(
        Error{Code::kExhausted,
              fmt::format("{} bytes, at most {} are read", file.bytes().size(), max_bytes),
              path.string()});
  }
  return std::string(reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size());
}

}  // namespace gem8
