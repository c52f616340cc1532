#include "tests/cuda_host/host_failures.h"

namespace moed::cuda_host {

void HostFailures::Add(const std::string& function, int nth, int error, bool sticky) {
  const MutexLock lock(mutex_);
  failures_.emplace(function, Failure{nth, error, sticky});
}

void HostFailures::Clear() {
  const MutexLock lock(mutex_);
  failures_.clear();
  sticky_error_ = 0;
}

int HostFailures::Next(absl::string_view function) {
  const MutexLock lock(mutex_);
  if (sticky_error_ != 0) return sticky_error_;
  if (failures_.empty()) return 0;
  int error = 0;
  const std::string name(function);
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

}  // namespace moed::cuda_host
