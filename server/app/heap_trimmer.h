// Gives memory that a burst has left in the heap back to the system.
#pragma once

#include <chrono>
#include <cstdint>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "kernels/core/mutex.h"

namespace moed {

// A flood of calls takes memory, all of which is freed in the end; but the allocator keeps the
// pages, and the process would stay as large as its worst moment. A thread looks now and then.
class HeapTrimmer {
 public:
  // Less than so much is not worth the work.
  static constexpr int64_t kWorthBytes = int64_t{32} << 20;

  explicit HeapTrimmer(std::chrono::milliseconds interval = std::chrono::seconds(5));
  ~HeapTrimmer();

 private:
  void Run();
  void TrimIfWorthwhile();

  const std::chrono::milliseconds interval_;
  int64_t free_after_trim_ = 0;  // the thread's own
  Mutex mutex_;
  CondVar changed_;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;  // last: it uses the rest
};

}  // namespace moed
