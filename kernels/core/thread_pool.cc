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
  constexpr size_t kExpectedCallers = 64;  // rank threads; more only make the list grow once
  jobs_.reserve(kExpectedCallers);
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
    WakeHelpers();
  }
  RunRanges(job);
  MutexLock lock(mutex_);
  if (shareable) jobs_.erase(std::find(jobs_.begin(), jobs_.end(), &job));
  ReturnPermit();
  while (job.num_helpers > 0) helper_finished_.Wait(mutex_);
}

ThreadPool::Job* ThreadPool::FindOpenJob() const {
  for (Job* job : jobs_) {
    if (job->next.load(std::memory_order_relaxed) < job->num_items) return job;
  }
  return nullptr;
}

void ThreadPool::ReturnPermit() {
  ++free_permits_;
  if (waiting_callers_ > 0) permit_available_.NotifyOne();
  WakeHelpers();
}

// A helper that found no permit or no range sleeps on: whoever changes either wakes it.
void ThreadPool::WakeHelpers() {
  const Job* job = FindOpenJob();
  if (job == nullptr) return;
  const int64_t left = job->num_items - job->next.load(std::memory_order_relaxed);
  const int64_t ranges = (left + job->grain - 1) / job->grain;
  const int64_t spare = free_permits_ - waiting_callers_;
  for (int64_t i = 0; i < std::min(ranges, spare); ++i) work_available_.NotifyOne();
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
    Job* job = free_permits_ > waiting_callers_ ? FindOpenJob() : nullptr;
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
    ReturnPermit();
    helper_finished_.NotifyAll();
  }
}

}  // namespace moed
