#include "tests/cuda_host/launch_log.h"

#include "kernels/core/mutex.h"

namespace moed::cuda_host {
namespace {

struct Log {
  Mutex mutex;
  std::map<std::string, int64_t> counts ABSL_GUARDED_BY(mutex);  // by expression
};

Log& TheLog() {
  static Log& log = *new Log;
  return log;
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

std::map<std::string, int64_t> LaunchCounts() {
  Log& log = TheLog();
  const MutexLock lock(log.mutex);
  std::map<std::string, int64_t> by_name;
  for (const auto& [expression, count] : log.counts) by_name[KernelName(expression)] += count;
  return by_name;
}

void ResetLaunchCounts() {
  Log& log = TheLog();
  const MutexLock lock(log.mutex);
  log.counts.clear();
}

void LogLaunch(const char* expression) {
  Log& log = TheLog();
  const MutexLock lock(log.mutex);
  ++log.counts[expression];
}

}  // namespace moed::cuda_host
