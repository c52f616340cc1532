#include "server/app/daemon_events.h"

#include <chrono>
#include <thread>

#include "gtest/gtest.h"

namespace moed {
namespace {

using std::chrono::hours;
using std::chrono::milliseconds;

constexpr milliseconds kNever = hours(1);
constexpr milliseconds kAtOnce{0};

TEST(DaemonEventsTest, WaitsForTheEnd) {
  DaemonEvents events;
  events.PostSignal();
  std::thread ending([&] { events.PostStopped(); });
  EXPECT_TRUE(events.WaitForStopped(kAtOnce, kAtOnce));
  ending.join();
}

TEST(DaemonEventsTest, ASecondSignalEndsTheWaiting) {
  DaemonEvents events;
  events.PostSignal();
  std::thread second([&] { events.PostSignal(); });
  EXPECT_FALSE(events.WaitForStopped(/*after_signal=*/kAtOnce, /*after_fault=*/kNever));
  second.join();
}

TEST(DaemonEventsTest, AFaultEndsTheWaiting) {
  DaemonEvents events;
  events.PostSignal();
  std::thread failing([&] { events.PostFault(absl::UnavailableError("rank 1 hangs")); });
  EXPECT_FALSE(events.WaitForStopped(/*after_signal=*/kNever, /*after_fault=*/kAtOnce));
  failing.join();
}

TEST(DaemonEventsTest, TheShorterPatienceCounts) {
  DaemonEvents events;
  events.PostFault(absl::UnavailableError("rank 1 hangs"));
  std::thread signals([&] {
    events.PostSignal();
    events.PostSignal();
  });
  EXPECT_FALSE(events.WaitForStopped(/*after_signal=*/kAtOnce, /*after_fault=*/kNever));
  signals.join();
}

TEST(DaemonEventsTest, AnEndThatHasComeNeedsNoPatience) {
  DaemonEvents events;
  events.PostSignal();
  events.PostSignal();
  events.PostStopped();
  EXPECT_TRUE(events.WaitForStopped(kAtOnce, kAtOnce));
}

TEST(DaemonEventsTest, ASecondSignalEndsTheWaitForALoad) {
  DaemonEvents events;
  events.PostSignal();
  events.PostSignal();
  EXPECT_FALSE(events.WaitForStart(std::chrono::steady_clock::now() + hours(1)));
}

TEST(DaemonEventsTest, ADrainIsAFirstSignalWithATimeoutOfItsOwn) {
  DaemonEvents events;
  events.PostDrain(milliseconds(5));
  events.PostDrain(std::nullopt);
  events.WaitForSignalOrFault();
  EXPECT_EQ(events.drain_timeout(), milliseconds(5)) << "the first call counts";
  EXPECT_EQ(events.signals(), 0);
}

TEST(DaemonEventsTest, ASignalAfterADrainIsNotTheSecond) {
  DaemonEvents events;
  events.PostDrain(std::nullopt);
  events.PostSignal();
  EXPECT_FALSE(events.WaitForHurry(std::chrono::steady_clock::now()));
  events.PostSignal();
  EXPECT_TRUE(events.WaitForHurry(std::chrono::steady_clock::now() + kNever));
}

}  // namespace
}  // namespace moed
