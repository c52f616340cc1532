#include "runtime/checkpoint/read_only_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "kernels/core/check.h"
#include "kernels/core/status.h"

namespace moed {
namespace {

// The kernel reads ahead at most this much for one MADV_WILLNEED on a device with the usual
// settings; a larger range has to be asked for piece by piece.
constexpr int64_t kReadAheadBytes = int64_t{128} << 10;

absl::Status FileError(const std::string& path, absl::string_view what, int error) {
  return absl::ErrnoToStatus(error, absl::StrCat(path, ": ", what));
}

}  // namespace

absl::StatusOr<ReadOnlyFile> ReadOnlyFile::Open(std::string path) {
  // O_NONBLOCK: a named pipe in the file's place must not hang the start.
  const int descriptor = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (descriptor < 0) return FileError(path, "cannot open", errno);
  ReadOnlyFile file(std::move(path), descriptor, 0);
  struct stat status = {};
  if (fstat(descriptor, &status) != 0) return FileError(file.path_, "cannot stat", errno);
  if (!S_ISREG(status.st_mode)) {
    return absl::InvalidArgumentError(
        absl::StrCat(file.path_, ": expected a regular file, found something else"));
  }
  file.bytes_ = status.st_size;
  // Reading a header must not pull in the tensors behind it, which may be another rank's.
  posix_fadvise(descriptor, 0, 0, POSIX_FADV_RANDOM);
  return file;
}

ReadOnlyFile::~ReadOnlyFile() {
  if (descriptor_ >= 0) close(descriptor_);
}

absl::StatusOr<std::string> ReadOnlyFile::Read(int64_t offset, int64_t bytes) const {
  MOED_CHECK(offset >= 0 && bytes >= 0 && bytes <= bytes_ - offset, "a read outside the file");
  std::string text(static_cast<size_t>(bytes), '\0');
  int64_t done = 0;
  while (done < bytes) {
    const ssize_t count =
        pread(descriptor_, text.data() + done, static_cast<size_t>(bytes - done), offset + done);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return FileError(path_, "cannot read", errno);
    if (count == 0) {
      return absl::FailedPreconditionError(absl::StrCat(
          path_, ": expected ", bytes_, " bytes as when it was opened, found ", offset + done));
    }
    done += count;
  }
  return text;
}

absl::StatusOr<Buffer> ReadOnlyFile::Map(int64_t offset, int64_t bytes) const {
  MOED_CHECK(offset >= 0 && bytes > 0 && bytes <= bytes_ - offset, "a mapping outside the file");
  struct stat status = {};
  if (fstat(descriptor_, &status) != 0) return FileError(path_, "cannot stat", errno);
  if (status.st_size < bytes_) {
    return absl::FailedPreconditionError(absl::StrCat(
        path_, ": expected ", bytes_, " bytes as when it was opened, found ", status.st_size));
  }
  const int64_t page_bytes = sysconf(_SC_PAGESIZE);
  const int64_t begin = offset / page_bytes * page_bytes;
  const int64_t mapped_bytes = offset + bytes - begin;
  void* base =
      mmap(nullptr, static_cast<size_t>(mapped_bytes), PROT_READ, MAP_PRIVATE, descriptor_, begin);
  if (base == MAP_FAILED) return FileError(path_, "cannot map", errno);
  char* const first = static_cast<char*>(base);
  // Sequential read-ahead would run past the range into the next tensor, so it is off and the range
  // is asked for explicitly. Advice may fail; the pages then come one by one.
  madvise(base, static_cast<size_t>(mapped_bytes), MADV_RANDOM);
  for (int64_t done = 0; done < mapped_bytes; done += kReadAheadBytes) {
    madvise(first + done, static_cast<size_t>(std::min(kReadAheadBytes, mapped_bytes - done)),
            MADV_WILLNEED);
  }
  return Buffer(first + (offset - begin), bytes,
                [base, mapped_bytes](void*) { munmap(base, static_cast<size_t>(mapped_bytes)); });
}

absl::StatusOr<std::string> ReadSmallFile(const std::string& path, int64_t max_bytes) {
  MOED_ASSIGN_OR_RETURN(const ReadOnlyFile file, ReadOnlyFile::Open(path));
  if (file.bytes() > max_bytes) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": expected at most ", max_bytes, " bytes, found ", file.bytes()));
  }
  return file.Read(0, file.bytes());
}

}  // namespace moed
