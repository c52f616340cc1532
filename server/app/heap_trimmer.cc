#include "server/app/heap_trimmer.h"

#include <malloc.h>

#include <algorithm>

namespace moed {
namespace {

int64_t FreeHeapBytes() { return static_cast<int64_t>(mallinfo2().fordblks); }

}  // namespace

HeapTrimmer::HeapTrimmer(std::chrono::milliseconds interval)
    : interval_(interval), thread_([this] { Run(); }) {}

HeapTrimmer::~HeapTrimmer() {
  {
    MutexLock lock(mutex_);
    stopping_ = true;
    changed_.NotifyAll();
  }
  thread_.join();
}

void HeapTrimmer::Run() {
  mutex_.Lock();
  while (!stopping_) {
    const auto next = std::chrono::steady_clock::now() + interval_;
    while (!stopping_ && changed_.WaitUntil(mutex_, next)) {
    }
    if (stopping_) break;
    mutex_.Unlock();
    TrimIfWorthwhile();
    mutex_.Lock();
  }
  mutex_.Unlock();
}

void HeapTrimmer::TrimIfWorthwhile() {
  // What has been given back still counts as free: only what came since is worth another round.
  const int64_t free = FreeHeapBytes();
  free_after_trim_ = std::min(free_after_trim_, free);
  if (free - free_after_trim_ < kWorthBytes) return;
  malloc_trim(0);
  free_after_trim_ = FreeHeapBytes();
}

}  // namespace moed
