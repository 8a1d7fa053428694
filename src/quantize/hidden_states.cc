#include "quantize/hidden_states.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "foundation/mapped_file.h"

namespace gem8 {

namespace {

/// Closes a descriptor at the end of a scope.
struct Descriptor {
  int file = -1;
  ~Descriptor() {
    if (file >= 0) ::close(file);
  }
};

}  // namespace

HiddenStates::HiddenStates(HiddenStates&& other) noexcept {
  *this = std::move(other);
}

HiddenStates& HiddenStates::operator=(HiddenStates&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  std::swap(row_bytes_, other.row_bytes_);
  std::swap(path_, other.path_);
  return *this;
}

HiddenStates::~HiddenStates() {
  if (data_ != nullptr) ::munmap(data_, bytes_);
}

Result<HiddenStates> HiddenStates::map(const std::filesystem::path& path, int file,
                                       std::uint64_t rows, std::size_t row_bytes) {
  HiddenStates states;
  states.bytes_ = rows * row_bytes;
  states.row_bytes_ = row_bytes;
  states.path_ = path.string();
  void* const at = ::mmap(nullptr, states.bytes_, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  if (at == MAP_FAILED) return system_error("cannot map", path, errno);
  states.data_ = static_cast<std::byte*>(at);
  return states;
}

Result<HiddenStates> HiddenStates::create(const std::filesystem::path& path, std::uint64_t rows,
                                          std::size_t row_bytes) {
  const Descriptor file{::open(path.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644)};
  if (file.file < 0) return system_error("cannot create", path, errno);
  // Reserved now: writing through the mapping to a full disk would be a signal, not an error.
  if (const int error = ::posix_fallocate(file.file, 0, static_cast<off_t>(rows * row_bytes));
      error != 0) {
    ::unlink(path.c_str());
    return system_error("cannot reserve space for", path, error);
  }
  return map(path, file.file, rows, row_bytes);
}

Result<HiddenStates> HiddenStates::open(const std::filesystem::path& path, std::uint64_t rows,
                                        std::size_t row_bytes) {
  const Descriptor file{::open(path.c_str(), O_RDWR | O_CLOEXEC)};
  if (file.file < 0) return system_error("cannot open", path, errno);
  struct stat status = {};
  if (::fstat(file.file, &status) != 0) return system_error("cannot open", path, errno);
  if (static_cast<std::uint64_t>(status.st_size) != rows * row_bytes) {
    return fail(Code::kCorrupt, "{}: {} bytes, wanted {}", path.string(), status.st_size,
                rows * row_bytes);
  }
  return map(path, file.file, rows, row_bytes);
}

Status HiddenStates::flush() {
  if (data_ != nullptr && ::msync(data_, bytes_, MS_SYNC) != 0) {
    return system_error("cannot write", path_, errno);
  }
  return {};
}

void HiddenStates::release(std::uint64_t first, std::uint64_t count) {
  const auto page = static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
  const std::uint64_t begin = (first * row_bytes_ + page - 1) / page * page;
  const std::uint64_t end = (first + count) * row_bytes_ / page * page;
  if (data_ != nullptr && end > begin) ::madvise(data_ + begin, end - begin, MADV_DONTNEED);
}

}  // namespace gem8
