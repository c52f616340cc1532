#include "server/app/process_resources.h"

#include <sched.h>

#include <algorithm>
#include <fstream>
#include <string>
#include <thread>

#include "server/app/control_group.h"

namespace moed {
namespace {

std::optional<int64_t> ReadNumber(const std::string& path) {
  std::ifstream file(path);
  int64_t value = 0;
  if (file >> value) return value;
  return std::nullopt;
}

std::optional<int64_t> SystemAvailableBytes() {
  std::ifstream file("/proc/meminfo");
  std::string key;
  int64_t kib = 0;
  std::string unit;
  while (file >> key >> kib) {
    if (key == "MemAvailable:") return kib * 1024;
    std::getline(file, unit);
  }
  return std::nullopt;
}

// The value of `key` in a file of "key value" lines.
std::optional<int64_t> ReadKey(const std::string& path, const std::string& key) {
  std::ifstream file(path);
  std::string name;
  int64_t value = 0;
  while (file >> name >> value) {
    if (name == key) return value;
  }
  return std::nullopt;
}

// Version 2 of control groups; "max" reads as no number. Cached file pages count as used there, but
// make room when memory is asked for.
std::optional<int64_t> ControlGroupAvailableBytes() {
  const std::optional<int64_t> limit = ReadNumber("/sys/fs/cgroup/memory.max");
  const std::optional<int64_t> used = ReadNumber("/sys/fs/cgroup/memory.current");
  if (!limit.has_value() || !used.has_value()) return std::nullopt;
  const int64_t cached = ReadKey("/sys/fs/cgroup/memory.stat", "file").value_or(0);
  return std::max<int64_t>(0, *limit - std::max<int64_t>(0, *used - cached));
}

}  // namespace

std::optional<int64_t> AvailableMemoryBytes() {
  const std::optional<int64_t> system = SystemAvailableBytes();
  const std::optional<int64_t> group = ControlGroupAvailableBytes();
  if (system.has_value() && group.has_value()) return std::min(*system, *group);
  return system.has_value() ? system : group;
}

int AvailableProcessors() {
  cpu_set_t set;
  int processors = static_cast<int>(std::thread::hardware_concurrency());
  if (sched_getaffinity(0, sizeof(set), &set) == 0) processors = CPU_COUNT(&set);
  // More threads than the quota pays for would be stopped in the middle of a step.
  return std::max(1, std::min(processors, OwnProcessorQuota().value_or(processors)));
}

}  // namespace moed
