// Notices calls whose client does not take what is written to it.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "kernels/core/mutex.h"
#include "runtime/schedule/request.h"

namespace moed {

// A call with at most one write on its way to the client at a time.
class TimedCall {
 public:
  virtual ~TimedCall() = default;

 protected:
  // Any thread, in turns.
  void WriteBegins() { since_ = std::chrono::steady_clock::now().time_since_epoch().count(); }
  void WriteEnds() { since_ = 0; }

 private:
  friend class WriteTimeouts;

  // The write has been on its way for `timeouts` timeouts: 1, then 2 and so on. On the timer's
  // thread; may end the call, and with it this object.
  virtual void OnWriteStuck(int timeouts) = 0;

  std::atomic<int64_t> since_{0};  // on the steady clock; 0: nothing is written
};

// One thread for all calls, and a write costs them no lock. Thread-safe.
class WriteTimeouts {
 public:
  // 0: none, and no thread.
  explicit WriteTimeouts(std::chrono::milliseconds timeout);
  ~WriteTimeouts();  // no call may be left

  void Watch(TimedCall* call);
  // OnWriteStuck is not called any more, nor running elsewhere, when this returns.
  void Forget(TimedCall* call);

  size_t num_calls() const;

 private:
  struct Write {
    int64_t since = 0;
    int reported = 0;  // timeouts
  };

  void RunTimer();
  // The calls that must be told.
  std::vector<TimedCall*> FindStuck() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // How many more timeouts have passed than it was told; 0: none.
  int TimeoutsToReport(TimedCall* call) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const std::chrono::nanoseconds timeout_;
  mutable Mutex mutex_;
  CondVar changed_;
  absl::flat_hash_map<TimedCall*, Write> calls_ ABSL_GUARDED_BY(mutex_);
  TimedCall* told_ ABSL_GUARDED_BY(mutex_) = nullptr;  // its OnWriteStuck is running
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread timer_;  // last: it uses the rest
};

}  // namespace moed
