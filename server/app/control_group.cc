#include "server/app/control_group.h"

#include <algorithm>
#include <fstream>
#include <iterator>
#include <limits>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

namespace moed {
namespace {

std::string ReadFile(const std::string& path) {
  std::ifstream file(path);
  return std::string(std::istreambuf_iterator<char>(file), {});
}

}  // namespace

std::optional<int> ProcessorQuota(absl::string_view cpu_max) {
  const std::vector<absl::string_view> words =
      absl::StrSplit(cpu_max, absl::ByAnyChar(" \n"), absl::SkipEmpty());
  int64_t quota = 0;
  int64_t period = 0;
  if (words.size() != 2 || !absl::SimpleAtoi(words[0], &quota) ||
      !absl::SimpleAtoi(words[1], &period) || quota < 1 || period < 1) {
    return std::nullopt;
  }
  const int64_t processors = (quota - 1) / period + 1;
  return static_cast<int>(std::min<int64_t>(processors, std::numeric_limits<int>::max()));
}

std::vector<std::string> ControlGroupDirectories(absl::string_view self, const std::string& root) {
  std::vector<std::string> directories;
  for (absl::string_view line : absl::StrSplit(self, '\n')) {
    if (!absl::ConsumePrefix(&line, "0::")) continue;
    // "/a/b" gives root/a/b and root/a; "/" nothing.
    for (absl::string_view path = line; path.size() > 1; path = path.substr(0, path.rfind('/'))) {
      if (path.front() != '/') break;
      directories.push_back(absl::StrCat(root, path));
    }
  }
  directories.push_back(root);
  return directories;
}

std::optional<int> OwnProcessorQuota() {
  std::optional<int> least;
  for (const std::string& directory :
       ControlGroupDirectories(ReadFile("/proc/self/cgroup"), "/sys/fs/cgroup")) {
    const std::optional<int> quota = ProcessorQuota(ReadFile(directory + "/cpu.max"));
    if (quota.has_value()) least = std::min(least.value_or(*quota), *quota);
  }
  return least;
}

}  // namespace moed
