#include "tests/cuda_host/launch_log.h"

#include "kernels/core/mutex.h"

namespace moed::cuda_host {
namespace {

using Counts = std::map<std::string, int64_t>;

struct Log {
  Mutex mutex;
  // By expression.
  Counts since_reset ABSL_GUARDED_BY(mutex);
  Counts total ABSL_GUARDED_BY(mutex);
};

Log& TheLog() {
  static Log& log = *new Log;
  return log;
}

Counts ByName(const Counts& by_expression) {
  Counts by_name;
  for (const auto& [expression, count] : by_expression) by_name[KernelName(expression)] += count;
  return by_name;
}

}  // namespace

std::string KernelName(absl::string_view expression) {
  while (!expression.empty() && (expression.front() == '(' || expression.front() == ' ')) {
    expression.remove_prefix(1);
  }
  expression = expression.substr(0, expression.find_first_of("<) "));
  if (const size_t colons = expression.rfind("::"); colons != absl::string_view::npos) {
    expression.remove_prefix(colons + 2);
  }
  return std::string(expression);
}

Counts LaunchCounts() {
  Log& log = TheLog();
  const MutexLock lock(log.mutex);
  return ByName(log.since_reset);
}

void ResetLaunchCounts() {
  Log& log = TheLog();
  const MutexLock lock(log.mutex);
  log.since_reset.clear();
}

Counts TotalLaunchCounts() {
  Log& log = TheLog();
  const MutexLock lock(log.mutex);
  return ByName(log.total);
}

void LogLaunch(const char* expression) {
  Log& log = TheLog();
  const MutexLock lock(log.mutex);
  ++log.since_reset[expression];
  ++log.total[expression];
}

}  // namespace moed::cuda_host
