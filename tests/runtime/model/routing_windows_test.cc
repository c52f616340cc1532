// Windows against a plain list of everything that was ever added.
#include "runtime/model/routing_windows.h"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <optional>
#include <random>
#include <vector>

#include "gtest/gtest.h"

namespace moed {
namespace {

using std::chrono::hours;
using std::chrono::milliseconds;
using std::chrono::minutes;
using std::chrono::seconds;
using TimePoint = RoutingWindows::TimePoint;
using Duration = std::chrono::steady_clock::duration;

constexpr int kLayers = 3;
constexpr int kExperts = 4;
// Of no special value: buckets are counted from the start of the windows.
const TimePoint kStart{milliseconds(123456789)};

struct TimedStep {
  TimePoint time;
  RoutingSums counts{kLayers, kExperts};
};

RoutingSums DrawCounts(std::mt19937_64& random) {
  std::uniform_int_distribution<int64_t> count(0, 1000);
  RoutingSums sums(kLayers, kExperts);
  for (int64_t& value : sums.expert_counts) value = count(random);
  for (int64_t& value : sums.same_first) value = count(random);
  for (int64_t& value : sums.any_shared) value = count(random);
  sums.repetition_rows = count(random);
  sums.dropped_pairs = count(random);
  return sums;
}

RoutingCounts ViewOf(const RoutingSums& sums) {
  return {sums.expert_counts, sums.same_first, sums.any_shared, sums.repetition_rows,
          sums.dropped_pairs};
}

RoutingSums SumSince(const std::vector<TimedStep>& steps, TimePoint begin) {
  RoutingSums sums(kLayers, kExperts);
  for (const TimedStep& step : steps) {
    if (step.time >= begin) sums.Add(step.counts);
  }
  return sums;
}

void ExpectSame(const RoutingSums& actual, const RoutingSums& expected, const char* what) {
  EXPECT_EQ(actual.expert_counts, expected.expert_counts) << what;
  EXPECT_EQ(actual.same_first, expected.same_first) << what;
  EXPECT_EQ(actual.any_shared, expected.any_shared) << what;
  EXPECT_EQ(actual.repetition_rows, expected.repetition_rows) << what;
  EXPECT_EQ(actual.dropped_pairs, expected.dropped_pairs) << what;
}

// The rule of the header, on the list: everything since the start of the bucket that the window
// begins in.
void ExpectWindow(const RoutingWindows& windows, const std::vector<TimedStep>& steps,
                  seconds window, TimePoint now) {
  const RoutingWindows::Window answer = windows.Query(window, now);
  const seconds bucket = window <= seconds(120) ? seconds(1) : seconds(30);
  EXPECT_LT(answer.covered, window + bucket);
  const bool is_young = now - kStart < window;
  EXPECT_GE(answer.covered, is_young ? now - kStart : window);
  EXPECT_EQ((now - answer.covered - kStart) % bucket, Duration::zero());
  ExpectSame(answer.sums, SumSince(steps, now - answer.covered), "window");
}

RoutingSums One(int64_t value) {
  RoutingSums sums(kLayers, kExperts);
  std::fill(sums.expert_counts.begin(), sums.expert_counts.end(), value);
  sums.repetition_rows = value;
  return sums;
}

TEST(RoutingWindowsTest, SeededRunsEqualAPlainListOfSteps) {
  for (uint64_t seed = 0; seed < 20; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    std::mt19937_64 random(seed);
    RoutingWindows windows(kLayers, kExperts, kStart);
    std::vector<TimedStep> steps;
    TimePoint now = kStart;
    for (int i = 0; i < 1500; ++i) {
      // Mostly a busy engine; at times a pause of up to three minutes, rarely of up to two hours.
      const int kind = std::uniform_int_distribution<>(0, 99)(random);
      const int64_t longest = kind < 90 ? 400 : kind < 99 ? 180'000 : 7'200'000;
      now += milliseconds(std::uniform_int_distribution<int64_t>(0, longest)(random));
      steps.push_back({now, DrawCounts(random)});
      windows.Add(ViewOf(steps.back().counts), now);
      if (i % 10 != 0) continue;
      const int64_t pause = i % 30 == 0 ? std::uniform_int_distribution<>(0, 90'000)(random) : 0;
      const TimePoint asked = now + milliseconds(pause);
      const int longest_window = i % 20 == 0 ? 3600 : 150;
      ExpectWindow(windows, steps,
                   seconds(std::uniform_int_distribution<>(1, longest_window)(random)), asked);
      ExpectSame(windows.Query(std::nullopt, asked).sums, SumSince(steps, kStart), "since start");
      if (testing::Test::HasFailure()) return;
    }
  }
}

TEST(RoutingWindowsTest, BeforeTheFirstStepEverythingIsZero) {
  const RoutingWindows windows(kLayers, kExperts, kStart);
  const RoutingSums zero(kLayers, kExperts);
  ExpectSame(windows.Query(std::nullopt, kStart).sums, zero, "since start");
  ExpectSame(windows.Query(seconds(60), kStart + seconds(5)).sums, zero, "a minute");
  ExpectSame(windows.Query(seconds(3600), kStart + seconds(5)).sums, zero, "an hour");
  EXPECT_EQ(windows.Query(seconds(60), kStart + seconds(5)).covered, seconds(5));
}

TEST(RoutingWindowsTest, AWindowReachesBackToTheStartOfItsOldestBucket) {
  RoutingWindows windows(kLayers, kExperts, kStart);
  const RoutingSums one = One(1);
  for (int i = 0; i < 10; ++i) windows.Add(ViewOf(one), kStart + seconds(i));
  // Now is in the tenth second: the last two seconds are a part of the eighth, the ninth and the
  // tenth so far.
  const RoutingWindows::Window window = windows.Query(seconds(2), kStart + milliseconds(9300));
  EXPECT_EQ(window.sums.expert_counts[0], 3);
  EXPECT_EQ(window.covered, milliseconds(2300));
}

TEST(RoutingWindowsTest, AGapLongerThanTheWindowEmptiesItButNotTheTotal) {
  RoutingWindows windows(kLayers, kExperts, kStart);
  const RoutingSums one = One(1);
  windows.Add(ViewOf(one), kStart);
  const TimePoint later = kStart + hours(5) + milliseconds(1);
  EXPECT_EQ(windows.Query(seconds(3600), later).sums.expert_counts[0], 0);
  EXPECT_EQ(windows.Query(seconds(1), later).sums.expert_counts[0], 0);
  EXPECT_EQ(windows.Query(std::nullopt, later).sums.expert_counts[0], 1);
  windows.Add(ViewOf(one), later);
  EXPECT_EQ(windows.Query(seconds(3600), later).sums.expert_counts[0], 1);
  EXPECT_EQ(windows.Query(seconds(120), later).sums.expert_counts[0], 1);
  EXPECT_EQ(windows.Query(std::nullopt, later).sums.expert_counts[0], 2);
}

TEST(RoutingWindowsTest, ABucketThatIsTakenAgainForgetsWhatItHeld) {
  // 121 fine and 121 coarse buckets: these times share their places.
  RoutingWindows windows(kLayers, kExperts, kStart);
  const RoutingSums one = One(1);
  const RoutingSums ten = One(10);
  windows.Add(ViewOf(one), kStart);
  const TimePoint round = kStart + seconds(121) * 30;
  windows.Add(ViewOf(ten), round);
  EXPECT_EQ(windows.Query(seconds(1), round).sums.expert_counts[0], 10);
  EXPECT_EQ(windows.Query(seconds(3600), round).sums.expert_counts[0], 10);
  windows.Add(ViewOf(one), round + seconds(121));
  EXPECT_EQ(windows.Query(seconds(1), round + seconds(121)).sums.expert_counts[0], 1);
  EXPECT_EQ(windows.Query(seconds(3600), round + seconds(121)).sums.expert_counts[0], 11);
}

TEST(RoutingWindowsTest, WhileTimeStandsStillAllFallsIntoOneBucket) {
  RoutingWindows windows(kLayers, kExperts, kStart);
  const RoutingSums one = One(1);
  for (int i = 0; i < 1000; ++i) windows.Add(ViewOf(one), kStart);
  EXPECT_EQ(windows.Query(seconds(1), kStart).sums.expert_counts[0], 1000);
  EXPECT_EQ(windows.Query(seconds(3600), kStart).sums.expert_counts[0], 1000);
  EXPECT_EQ(windows.Query(std::nullopt, kStart).sums.expert_counts[0], 1000);
}

TEST(RoutingWindowsTest, TimeThatRunsBackwardsCountsAsStandingStill) {
  RoutingWindows windows(kLayers, kExperts, kStart);
  const RoutingSums one = One(1);
  const TimePoint late = kStart + minutes(10);
  windows.Add(ViewOf(one), late);
  windows.Add(ViewOf(one), kStart - hours(1));
  // Both are the newest second's, also for a reader whose clock is behind.
  EXPECT_EQ(windows.Query(seconds(1), late).sums.expert_counts[0], 2);
  EXPECT_EQ(windows.Query(seconds(1), kStart - hours(1)).sums.expert_counts[0], 2);
  EXPECT_EQ(windows.Query(seconds(1), late + seconds(2)).sums.expert_counts[0], 0);
}

TEST(RoutingWindowsTest, WindowsOutOfRangeAreClipped) {
  RoutingWindows windows(kLayers, kExperts, kStart);
  const RoutingSums one = One(1);
  windows.Add(ViewOf(one), kStart);
  windows.Add(ViewOf(one), kStart + hours(3));
  const TimePoint now = kStart + hours(3) + milliseconds(700);
  EXPECT_EQ(windows.Query(hours(24), now).sums.expert_counts[0], 1);
  EXPECT_LT(windows.Query(hours(24), now).covered, hours(1) + seconds(30));
  for (const int window : {0, -1}) {
    EXPECT_EQ(windows.Query(seconds(window), now).sums.expert_counts[0], 1);
    EXPECT_LT(windows.Query(seconds(window), now).covered, seconds(2));
  }
}

TEST(RoutingWindowsTest, ARankWithoutRepetitionCountsAddsNone) {
  RoutingWindows windows(kLayers, kExperts, kStart);
  const std::vector<int64_t> counts(kLayers * kExperts, 2);
  windows.Add({counts, {}, {}, 0, 5}, kStart);
  const RoutingSums sums = windows.Query(std::nullopt, kStart).sums;
  EXPECT_EQ(sums.expert_counts, counts);
  EXPECT_EQ(sums.same_first, std::vector<int64_t>(kLayers, 0));
  EXPECT_EQ(sums.dropped_pairs, 5);
}

}  // namespace
}  // namespace moed
