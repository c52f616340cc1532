#include "server/app/descriptor_limit.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <limits>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace moed {
namespace {

// For what is no connection of a client: checkpoint shards, listeners, probes, gRPC's own.
constexpr int64_t kOwnDescriptors = 512;

int64_t Number(rlim_t limit) {
  constexpr int64_t kMost = std::numeric_limits<int64_t>::max();
  return limit > static_cast<rlim_t>(kMost) ? kMost : static_cast<int64_t>(limit);
}

}  // namespace

void OccupyStandardDescriptors() {
  for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; ++fd) {
    // The lowest free number is the one that is missing.
    if (fcntl(fd, F_GETFD) < 0) static_cast<void>(open("/dev/null", O_RDWR));
  }
}

absl::StatusOr<DescriptorLimit> RaiseDescriptorLimit() {
  rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) {
    return absl::ErrnoToStatus(errno, "the limit of file descriptors cannot be read");
  }
  DescriptorLimit result;
  result.before = Number(limit.rlim_cur);
  limit.rlim_cur = limit.rlim_max;
  if (setrlimit(RLIMIT_NOFILE, &limit) != 0) {
    return absl::ErrnoToStatus(errno, "the limit of file descriptors cannot be raised");
  }
  result.after = Number(limit.rlim_cur);
  return result;
}

std::optional<std::string> DescriptorWarning(const DescriptorLimit& limit, int max_connections) {
  if (limit.after - kOwnDescriptors >= max_connections) return std::nullopt;
  return absl::StrCat(
      "--max-connections ", max_connections, " needs ", max_connections + kOwnDescriptors,
      " file descriptors, and the system allows ", limit.after, ": connections beyond that wait");
}

}  // namespace moed
