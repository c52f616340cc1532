// A regular file opened for reading and mapping.
#pragma once

#include <cstdint>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "kernels/core/buffer.h"

namespace moed {

// Move-only; the descriptor closes with it. Const calls are thread-safe.
//
// The size is the one at opening. Whoever shortens the file while a mapping is read makes the
// kernel send SIGBUS, which ends the process: checkpoints are to be replaced, not rewritten in
// place. Map checks the size again, so only a change during a read goes unseen.
class ReadOnlyFile {
 public:
  // Follows symbolic links (the Hugging Face cache is made of them). NOT_FOUND when nothing is
  // there, INVALID_ARGUMENT when it is no regular file; both name `path`.
  static absl::StatusOr<ReadOnlyFile> Open(std::string path);

  ReadOnlyFile(ReadOnlyFile&& other) noexcept
      : path_(std::move(other.path_)),
        descriptor_(std::exchange(other.descriptor_, -1)),
        bytes_(other.bytes_) {}
  ReadOnlyFile& operator=(ReadOnlyFile&&) = delete;
  ~ReadOnlyFile();

  const std::string& path() const { return path_; }
  int64_t bytes() const { return bytes_; }

  // The bytes [offset, offset + bytes), which lie within the file.
  absl::StatusOr<std::string> Read(int64_t offset, int64_t bytes) const;

  // Maps [offset, offset + bytes), bytes > 0, which lie within the file. The buffer's data() is the
  // byte at `offset`; its end unmaps. Only the pages of the range are read, and all of them are
  // asked for at once. FAILED_PRECONDITION when the file is shorter than it was.
  absl::StatusOr<Buffer> Map(int64_t offset, int64_t bytes) const;

 private:
  ReadOnlyFile(std::string path, int descriptor, int64_t bytes)
      : path_(std::move(path)), descriptor_(descriptor), bytes_(bytes) {}

  std::string path_;
  int descriptor_;
  int64_t bytes_;
};

// The text of a small file, INVALID_ARGUMENT when it is larger than `max_bytes`.
absl::StatusOr<std::string> ReadSmallFile(const std::string& path, int64_t max_bytes);

}  // namespace moed
