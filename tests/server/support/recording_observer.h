// Keeps the records of calls.
#pragma once

#include <algorithm>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "kernels/core/mutex.h"
#include "server/observe/request_observer.h"

namespace moed {

// Thread-safe.
class RecordingObserver : public RequestObserver {
 public:
  void OnAdmitted() override {
    MutexLock lock(mutex_);
    ++num_admitted_;
  }
  void OnEnd(const RequestRecord& record) override {
    MutexLock lock(mutex_);
    records_.push_back(record);
    changed_.NotifyAll();
  }

  // Blocks until there are so many records.
  std::vector<RequestRecord> WaitForRecords(size_t count) {
    MutexLock lock(mutex_);
    while (records_.size() < count) changed_.Wait(mutex_);
    return records_;
  }
  size_t num_records() const {
    MutexLock lock(mutex_);
    return records_.size();
  }
  int num_admitted() const {
    MutexLock lock(mutex_);
    return num_admitted_;
  }

 private:
  mutable Mutex mutex_;
  CondVar changed_;
  std::vector<RequestRecord> records_ ABSL_GUARDED_BY(mutex_);
  int num_admitted_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace moed
