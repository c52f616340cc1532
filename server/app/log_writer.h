// Writes lines to a descriptor on a thread of its own, so that a reader that stalls or a disk that
// is full stops nobody.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "kernels/core/mutex.h"

namespace moed {

// Thread-safe. The queue is bounded by bytes; what does not fit or cannot be written is dropped and
// counted, and once lines are taken again one line says how many were lost.
class LogWriter {
 public:
  // Makes the line that tells of `dropped` lines, with its line break.
  using DropNotice = std::string (*)(int64_t dropped);

  // `fd` is not closed, nor are its flags changed: other processes share what it refers to.
  LogWriter(int fd, size_t max_queued_bytes, DropNotice drop_notice);
  // Flushes for `kPatience`; a thread that the descriptor still keeps then is left behind.
  ~LogWriter();
  LogWriter(const LogWriter&) = delete;
  LogWriter& operator=(const LogWriter&) = delete;

  // `line` with its line break. Never blocks.
  void Write(std::string line);
  // Until everything queued has been written or dropped; false: not within `patience`.
  bool Flush(std::chrono::milliseconds patience);
  int64_t dropped_lines() const;

  static constexpr std::chrono::milliseconds kPatience{1000};

 private:
  // Shared with the thread, which may be left behind.
  struct Shared {
    Shared(int descriptor, size_t queue_bytes, DropNotice notice)
        : fd(descriptor), max_queued_bytes(queue_bytes), drop_notice(notice) {}

    const int fd;
    const size_t max_queued_bytes;
    const DropNotice drop_notice;
    mutable Mutex mutex;
    CondVar changed;
    std::deque<std::string> lines ABSL_GUARDED_BY(mutex);
    size_t queued_bytes ABSL_GUARDED_BY(mutex) = 0;
    bool writing ABSL_GUARDED_BY(mutex) = false;
    bool stopping ABSL_GUARDED_BY(mutex) = false;
    bool stopped ABSL_GUARDED_BY(mutex) = false;
    int64_t dropped ABSL_GUARDED_BY(mutex) = 0;
    int64_t told_dropped ABSL_GUARDED_BY(mutex) = 0;  // of them the log has spoken
  };

  static void Run(Shared* shared);
  // Waits until the descriptor takes something. False: stopping, or the line cannot be written.
  static bool WriteAll(Shared* shared, const std::string& line);

  const std::shared_ptr<Shared> shared_;
  std::thread thread_;
};

}  // namespace moed
