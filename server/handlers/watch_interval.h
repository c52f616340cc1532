// How often a watcher is told.
#pragma once

#include <chrono>

#include "absl/status/statusor.h"
#include "server/admission/field_rules.h"

namespace moed {

inline constexpr double kDefaultWatchSeconds = 1;
inline constexpr double kShortestWatchSeconds = 0.1;
inline constexpr double kLongestWatchSeconds = 3600;

// The interval_seconds of a Watch request; INVALID_ARGUMENT where it is out of range.
template <typename Request>
absl::StatusOr<std::chrono::milliseconds> WatchInterval(const Request& request) {
  const double seconds =
      request.has_interval_seconds() ? request.interval_seconds() : kDefaultWatchSeconds;
  const absl::Status status =
      CheckRange("interval_seconds", seconds, kShortestWatchSeconds, kLongestWatchSeconds);
  if (!status.ok()) return status;
  return std::chrono::milliseconds(static_cast<int64_t>(seconds * 1000));
}

}  // namespace moed
