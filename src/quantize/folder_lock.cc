#include "quantize/folder_lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>

#include "foundation/mapped_file.h"

namespace gem8 {

Result<FolderLock> FolderLock::take(const std::filesystem::path& dir) {
  FolderLock lock;
  lock.file_ = ::open(dir.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (lock.file_ < 0) return system_error("cannot open", dir, errno);
  // Other errors than this one come from file systems without locks, where there is none to take.
  if (::flock(lock.file_, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
    return fail(Code::kUnavailable, "{}: another process is working on it", dir.string());
  }
  return lock;
}

FolderLock::~FolderLock() {
  if (file_ >= 0) ::close(file_);
}

}  // namespace gem8
