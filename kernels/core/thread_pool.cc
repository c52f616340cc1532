#include "kernels/core/thread_pool.h"

#include <algorithm>
#include <atomic>
#include <cstdint>

#include "kernels/core/check.h"

namespace moed {

struct ThreadPool::Job {
  absl::FunctionRef<void(int64_t, int64_t)> body;
  int64_t num_items;
  int64_t grain;
  std::atomic<int64_t> next{0};
  int num_helpers = 0;  // inside RunRanges; guarded by the pool's mutex
};

ThreadPool::ThreadPool(int num_threads) : num_threads_(num_threads), free_permits_(num_threads) {
  MOED_CHECK(num_threads >= 1, "a pool has at least one thread");
  for (int i = 1; i < num_threads; ++i) helpers_.emplace_back([this] { HelperLoop(); });
}

ThreadPool::~ThreadPool() {
  {
    MutexLock lock(mutex_);
    stopping_ = true;
  }
  work_available_.NotifyAll();
  for (std::thread& helper : helpers_) helper.join();
}

void ThreadPool::ParallelFor(int64_t num_items, int64_t grain,
                             absl::FunctionRef<void(int64_t, int64_t)> body) {
  if (num_items <= 0) return;
  grain = std::max<int64_t>(grain, 1);
  Job job{body, num_items, grain};
  const bool shareable = num_items > grain && num_threads_ > 1;
  {
    MutexLock lock(mutex_);
    ++waiting_callers_;
    while (free_permits_ == 0) permit_available_.Wait(mutex_);
    --waiting_callers_;
    --free_permits_;
    if (shareable) jobs_.push_back(&job);
  }
  if (shareable) work_available_.NotifyAll();
  RunRanges(job);
  MutexLock lock(mutex_);
  ++free_permits_;
  if (waiting_callers_ > 0) permit_available_.NotifyOne();
  if (!shareable) return;
  jobs_.erase(std::find(jobs_.begin(), jobs_.end(), &job));
  while (job.num_helpers > 0) helper_finished_.Wait(mutex_);
}

void ThreadPool::RunRanges(Job& job) {
  while (true) {
    const int64_t begin = job.next.fetch_add(job.grain, std::memory_order_relaxed);
    if (begin >= job.num_items) return;
    job.body(begin, std::min(begin + job.grain, job.num_items));
  }
}

void ThreadPool::HelperLoop() {
  MutexLock lock(mutex_);
  while (true) {
    // Callers come first: a permit that a caller waits for is not taken by a helper.
    Job* job = nullptr;
    if (free_permits_ > waiting_callers_) {
      for (Job* candidate : jobs_) {
        if (candidate->next.load(std::memory_order_relaxed) < candidate->num_items) {
          job = candidate;
          break;
        }
      }
    }
    if (job == nullptr) {
      if (stopping_) return;
      work_available_.Wait(mutex_);
      continue;
    }
    ++job->num_helpers;
    --free_permits_;
    mutex_.Unlock();
    RunRanges(*job);
    mutex_.Lock();
    --job->num_helpers;
    ++free_permits_;
    if (waiting_callers_ > 0) permit_available_.NotifyOne();
    helper_finished_.NotifyAll();
  }
}

}  // namespace moed
