// The calls of a stand-in's functions: how many there were, and those that a test wants to fail.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/strings/string_view.h"
#include "kernels/core/mutex.h"

namespace moed::cuda_host {

using CallCounts = std::map<std::string, int64_t, std::less<>>;  // by function

// Thread-safe.
class HostCalls {
 public:
  // As FailCall in host_cuda.h.
  void Fail(const std::string& function, int nth, int error, bool sticky);
  void ClearFailures();

  // Counts a call; the error that it must return, 0 for none.
  int Next(absl::string_view function);

  CallCounts counts() const;
  void ResetCounts();

 private:
  struct Failure {
    int calls_left;
    int error;
    bool sticky;
  };

  mutable Mutex mutex_;
  CallCounts counts_ ABSL_GUARDED_BY(mutex_);
  std::multimap<std::string, Failure> failures_ ABSL_GUARDED_BY(mutex_);
  int sticky_error_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace moed::cuda_host
