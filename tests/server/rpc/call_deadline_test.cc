#include "server/rpc/call_deadline.h"

#include <chrono>
#include <limits>

#include "gtest/gtest.h"

namespace moed {
namespace {

constexpr int64_t kYearSeconds = int64_t{365} * 24 * 60 * 60;
constexpr int64_t kMax = std::numeric_limits<int64_t>::max();
constexpr int64_t kMin = std::numeric_limits<int64_t>::min();

gpr_timespec Span(int64_t seconds, int32_t nanoseconds = 0) {
  return {seconds, nanoseconds, GPR_TIMESPAN};
}

TEST(CallDeadlineTest, LiesAsFarAwayAsTheClientSays) {
  const TimePoint now = std::chrono::steady_clock::now();
  EXPECT_EQ(DeadlineAfter(Span(0), now), now);
  EXPECT_EQ(DeadlineAfter(Span(0, 1000), now), now + std::chrono::microseconds(1));
  EXPECT_EQ(DeadlineAfter(Span(90, 5000), now),
            now + std::chrono::seconds(90) + std::chrono::microseconds(5));
  EXPECT_EQ(DeadlineAfter(Span(kYearSeconds - 1, 999999999), now),
            now + std::chrono::seconds(kYearSeconds) - std::chrono::nanoseconds(1));
}

TEST(CallDeadlineTest, IsNoneFromAYearOn) {
  const TimePoint now = std::chrono::steady_clock::now();
  for (const int64_t seconds : {kYearSeconds, int64_t{99999999} * 3600, kMax - 1, kMax}) {
    EXPECT_FALSE(DeadlineAfter(Span(seconds, 999999999), now).has_value()) << seconds;
  }
}

TEST(CallDeadlineTest, IsNowWhereItHasPassed) {
  const TimePoint now = std::chrono::steady_clock::now();
  for (const int64_t seconds : {int64_t{-1}, -kYearSeconds, kMin + 1, kMin}) {
    EXPECT_EQ(DeadlineAfter(Span(seconds, 999999999), now), now) << seconds;
  }
}

}  // namespace
}  // namespace moed
