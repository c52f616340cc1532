// Threads that the CPU kernels of all ranks share.
#pragma once

#include <cstdint>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/functional/function_ref.h"
#include "kernels/core/mutex.h"

namespace moed {

// At most `num_threads` threads compute at any moment, however many rank threads call: a caller
// takes a permit and works itself, and idle helpers join it while permits are free. A caller that
// finds no permit sleeps. Nothing spins.
class ThreadPool {
 public:
  // num_threads >= 1. One thread starts no helper: work then runs on its caller.
  explicit ThreadPool(int num_threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int num_threads() const { return num_threads_; }

  // Calls body(begin, end) over disjoint ranges that cover [0, num_items), each of at most `grain`
  // items, and returns when all have run. Any thread may call; `body` must not call back in.
  // Which thread runs which range is unspecified, so `body` must give every item the same result
  // whatever the ranges are.
  void ParallelFor(int64_t num_items, int64_t grain,
                   absl::FunctionRef<void(int64_t begin, int64_t end)> body);

 private:
  struct Job;

  void HelperLoop();
  // A job with ranges that nobody has begun, or null.
  Job* FindOpenJob() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void ReturnPermit() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Wakes as many helpers as there are permits that no caller waits for, and ranges.
  void WakeHelpers() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Runs ranges of `job` until none is left.
  static void RunRanges(Job& job);

  const int num_threads_;
  Mutex mutex_;
  CondVar work_available_;    // signalled when a helper may have work, or the pool stops
  CondVar permit_available_;  // signalled when a permit returns
  CondVar helper_finished_;   // signalled when a helper leaves a job
  int free_permits_ ABSL_GUARDED_BY(mutex_);
  int waiting_callers_ ABSL_GUARDED_BY(mutex_) = 0;
  std::vector<Job*> jobs_ ABSL_GUARDED_BY(mutex_);
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<std::thread> helpers_;
};

}  // namespace moed
