#include "server/state/lifecycle.h"

#include "gtest/gtest.h"

namespace moed {
namespace {

TEST(Lifecycle, LoadingIsAsFarAsItsSlowestRank) {
  Lifecycle lifecycle;
  EXPECT_EQ(lifecycle.Snapshot().load_fraction, 0);
  lifecycle.ReportLoad({.rank = 1, .phase = "ready", .fraction = 1});
  lifecycle.ReportLoad({.rank = 0, .phase = "expert weights", .fraction = 0.5});
  const LifecycleSnapshot snapshot = lifecycle.Snapshot();
  ASSERT_EQ(snapshot.ranks.size(), 2u);
  EXPECT_EQ(snapshot.ranks[0].phase, "expert weights");
  EXPECT_EQ(snapshot.ranks[0].fraction, 0.5);
}

TEST(Lifecycle, ProgressNeverGoesBackAndEndsAtOne) {
  Lifecycle lifecycle;
  double before = 0;
  for (const char* phase : {"replicated weights", "expert weights", "kv cache", "ready"}) {
    for (const double fraction : {0.0, 0.5, 1.0}) {
      lifecycle.ReportLoad({.rank = 0, .phase = phase, .fraction = fraction});
      const double now = lifecycle.Snapshot().load_fraction;
      EXPECT_GE(now, before) << phase << " " << fraction;
      before = now;
    }
  }
  EXPECT_EQ(before, 1.0);
  lifecycle.ReportLoad({.rank = 7, .phase = "replicated weights", .fraction = 0});
  EXPECT_EQ(lifecycle.Snapshot().load_fraction, 1.0) << "a rank that comes late";
}

TEST(Lifecycle, PhasesGoForwardsOnly) {
  Lifecycle lifecycle;
  lifecycle.Enter(LifecyclePhase::kDraining);
  const uint64_t version = lifecycle.Snapshot().version;
  lifecycle.Enter(LifecyclePhase::kReady);
  EXPECT_EQ(lifecycle.phase(), LifecyclePhase::kDraining);
  EXPECT_EQ(lifecycle.Snapshot().version, version);
  lifecycle.ReportLoad({.rank = 0, .phase = "kv cache", .fraction = 1});
  EXPECT_TRUE(lifecycle.Snapshot().ranks.empty()) << "loading is over";
}

TEST(Lifecycle, EveryChangeHasAVersionOfItsOwn) {
  Lifecycle lifecycle;
  const uint64_t first = lifecycle.Snapshot().version;
  lifecycle.ReportLoad({.rank = 0, .phase = "kv cache", .fraction = 1});
  const uint64_t second = lifecycle.Snapshot().version;
  lifecycle.Enter(LifecyclePhase::kReady);
  EXPECT_LT(first, second);
  EXPECT_LT(second, lifecycle.Snapshot().version);
}

}  // namespace
}  // namespace moed
