// The threads on which front ends write.
#pragma once

#include <deque>
#include <functional>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "kernels/core/mutex.h"

namespace moed {

// Takes the writing off the output thread, which a step of the engine waits for: it only says who
// has something to write. While writers are behind, what follows is joined in the outboxes, so that
// the more there is to do the less a token costs. Thread-safe.
class WriterThreads {
 public:
  // num_threads >= 1.
  explicit WriterThreads(int num_threads);
  // Runs what was posted, then ends the threads; nothing may be posted any more.
  ~WriterThreads();

  // `write` is called once, on one of the threads; in the order of posting, but several at a time.
  // Never blocks.
  void Post(std::function<void()> write) ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  void Run();
  // A share of what waits; empty: stopping.
  void Take(std::vector<std::function<void()>>* taken) ABSL_LOCKS_EXCLUDED(mutex_);

  const size_t num_threads_;
  Mutex mutex_;
  CondVar posted_;
  std::deque<std::function<void()>> queue_ ABSL_GUARDED_BY(mutex_);
  int num_idle_ ABSL_GUARDED_BY(mutex_) = 0;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<std::thread> threads_;
};

}  // namespace moed
