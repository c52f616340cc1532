// What version 2 of Linux's control groups grants this process.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace moed {

// Processors that a cpu.max grants, rounded up ("150000 100000": 2); nullopt where it sets no bound
// ("max 100000") or is not such a file.
std::optional<int> ProcessorQuota(absl::string_view cpu_max);

// From the contents of /proc/self/cgroup: directories under `root` that bound the process, its own
// group's first and `root` last. Only `root` without a version 2 line. A directory need not be
// there: a container may see its own group as the root.
std::vector<std::string> ControlGroupDirectories(absl::string_view self, const std::string& root);

// The least quota on the way from this process's group to the root; nullopt without one.
std::optional<int> OwnProcessorQuota();

}  // namespace moed
