#include "server/rpc/call_deadline.h"

#include <chrono>

namespace moed {
namespace {

constexpr std::chrono::seconds kLongest = std::chrono::hours(24 * 365);

}  // namespace

std::optional<TimePoint> DeadlineAfter(gpr_timespec left, TimePoint now) {
  // Compared in seconds: the clock's nanoseconds cannot hold what a client may ask for.
  if (left.tv_sec >= kLongest.count()) return std::nullopt;
  if (left.tv_sec < 0) return now;
  return now + std::chrono::seconds(left.tv_sec) + std::chrono::nanoseconds(left.tv_nsec);
}

}  // namespace moed
