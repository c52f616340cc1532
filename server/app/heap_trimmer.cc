#include "server/app/heap_trimmer.h"

#include <malloc.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>

namespace moed {
namespace {

int64_t ResidentBytes() {
  // proc(5): the second number of statm is resident, in pages.
  std::ifstream statm("/proc/self/statm");
  int64_t total_pages = 0;
  int64_t resident_pages = 0;
  if (!(statm >> total_pages >> resident_pages)) return 0;
  return resident_pages * sysconf(_SC_PAGESIZE);
}

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
  // What has been given back counts as free too: only growth since then is worth another round.
  const int64_t resident = ResidentBytes();
  resident_after_trim_ = std::min(resident_after_trim_, resident);
  if (resident - resident_after_trim_ < kWorthBytes || FreeHeapBytes() < kWorthBytes) return;
  malloc_trim(0);
  resident_after_trim_ = ResidentBytes();
}

}  // namespace moed
