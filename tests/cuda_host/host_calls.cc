#include "tests/cuda_host/host_calls.h"

namespace moed::cuda_host {

void HostCalls::Fail(const std::string& function, int nth, int error, bool sticky) {
  const MutexLock lock(mutex_);
  failures_.emplace(function, Failure{nth, error, sticky});
}

void HostCalls::ClearFailures() {
  const MutexLock lock(mutex_);
  failures_.clear();
  sticky_error_ = 0;
}

int HostCalls::Next(absl::string_view function) {
  const MutexLock lock(mutex_);
  const std::string name(function);
  ++counts_[name];
  if (sticky_error_ != 0) return sticky_error_;
  int error = 0;
  auto [next, end] = failures_.equal_range(name);
  while (next != end) {
    Failure& failure = next->second;
    if (--failure.calls_left > 0) {
      ++next;
      continue;
    }
    error = failure.error;
    if (failure.sticky) sticky_error_ = error;
    next = failures_.erase(next);
  }
  return error;
}

CallCounts HostCalls::counts() const {
  const MutexLock lock(mutex_);
  return counts_;
}

void HostCalls::ResetCounts() {
  const MutexLock lock(mutex_);
  counts_.clear();
}

}  // namespace moed::cuda_host
