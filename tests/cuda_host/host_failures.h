// Calls of the stand-ins that a test has asked to fail.
#pragma once

#include <map>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/strings/string_view.h"
#include "kernels/core/mutex.h"

namespace moed::cuda_host {

// Thread-safe.
class HostFailures {
 public:
  // As FailCall in host_cuda.h.
  void Add(const std::string& function, int nth, int error, bool sticky);
  void Clear();

  // Counts a call; the error that it must return, 0 for none.
  int Next(absl::string_view function);

 private:
  struct Failure {
    int calls_left;
    int error;
    bool sticky;
  };

  Mutex mutex_;
  std::multimap<std::string, Failure, std::less<>> failures_ ABSL_GUARDED_BY(mutex_);
  int sticky_error_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace moed::cuda_host
