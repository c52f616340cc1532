#include "server/security/config_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace moed {
namespace {

constexpr size_t kMaxBytes = size_t{1} << 20;

class FileDescriptor {
 public:
  explicit FileDescriptor(int fd) : fd_(fd) {}
  ~FileDescriptor() {
    if (fd_ >= 0) close(fd_);
  }
  FileDescriptor(const FileDescriptor&) = delete;
  FileDescriptor& operator=(const FileDescriptor&) = delete;

  int get() const { return fd_; }

 private:
  const int fd_;
};

absl::Status SystemError(int error) {
  const std::string text = absl::StrCat("cannot be read: ", std::strerror(error));
  switch (error) {
    case ENOENT:
    case ENOTDIR:
      return absl::NotFoundError(text);
    case EACCES:
    case EPERM:
      return absl::PermissionDeniedError(text);
    default:
      return absl::FailedPreconditionError(text);
  }
}

}  // namespace

absl::StatusOr<std::string> ReadConfigFile(const std::string& path, FileTrust trust) {
  // Not blocking, so that a FIFO is refused instead of waited for.
  const FileDescriptor file(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (file.get() < 0) return SystemError(errno);
  struct stat status = {};
  if (fstat(file.get(), &status) != 0) return SystemError(errno);
  if (!S_ISREG(status.st_mode)) return absl::InvalidArgumentError("is not a regular file");
  if (trust == FileTrust::kOwnerWrites && (status.st_mode & (S_IWGRP | S_IWOTH)) != 0) {
    return absl::PermissionDeniedError(
        "may be written by others than its owner; take that away with chmod go-w");
  }
  std::string content;
  char buffer[16 << 10];
  while (true) {
    const ssize_t count = read(file.get(), buffer, sizeof(buffer));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return SystemError(errno);
    if (count == 0) return content;
    content.append(buffer, static_cast<size_t>(count));
    if (content.size() > kMaxBytes) return absl::InvalidArgumentError("is larger than 1 MiB");
  }
}

}  // namespace moed
