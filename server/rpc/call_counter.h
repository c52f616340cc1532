// Counts the calls that have not ended, so that a server can wait for the last bytes of each.
#pragma once

#include "absl/base/thread_annotations.h"
#include "kernels/core/mutex.h"
#include "runtime/schedule/request.h"

namespace moed {

// Thread-safe.
class CallCounter {
 public:
  void Enter() {
    MutexLock lock(mutex_);
    ++live_;
  }
  void Leave() {
    MutexLock lock(mutex_);
    if (--live_ == 0) none_.NotifyAll();
  }
  // False: `deadline` passed before the last one left.
  bool WaitForNone(TimePoint deadline) {
    MutexLock lock(mutex_);
    while (live_ > 0) {
      if (!none_.WaitUntil(mutex_, deadline)) return live_ == 0;
    }
    return true;
  }

 private:
  Mutex mutex_;
  CondVar none_;
  int live_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace moed
