// A step is planned while the one before runs.
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/runtime/schedule/scheduler_harness.h"

namespace moed {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

SchedulerOptions Options() {
  SchedulerOptions options;
  options.token_budget = 8;
  options.block_size = 4;
  options.num_blocks_per_rank = 16;
  options.max_sequences_per_rank = 4;
  return options;
}

TEST(PlanAheadTest, ADecodeReadsTheTokenThatIsNotKnownYet) {
  SchedulerHarness harness(Options());
  harness.Submit(MakeRequest(3, 4));
  EXPECT_EQ(harness.Plan(), "+0[0,3)*");
  EXPECT_EQ(harness.Plan(), "0@3*");
  harness.Finish();
  EXPECT_EQ(harness.Plan(), "0@4*");
  harness.Finish();
  EXPECT_EQ(harness.Plan(), "0@5*");
  harness.Finish();
  EXPECT_EQ(harness.Plan(), "-") << "its last token is being drawn";
  EXPECT_EQ(harness.plan().num_rows, 0);
  harness.Finish();
  EXPECT_EQ(harness.Tokens(1), FakeContinuation(MakeRequest(3, 4), harness.vocab()));
  EXPECT_FALSE(harness.scheduler().HasWork());
}

TEST(PlanAheadTest, AStopIsOverrunByOneTokenThatNobodySees) {
  GenerationRequest request = MakeRequest(3, 9);
  const std::vector<int32_t> free_run = FakeContinuation(request, 1000);
  request.stopping.eos_token_ids = {free_run[1]};
  SchedulerHarness harness(Options());
  harness.Submit(request);
  harness.Plan();
  harness.Plan();
  harness.Finish();
  EXPECT_EQ(harness.Plan(), "0@4*") << "planned before the stop token was known";
  harness.Finish();
  EXPECT_THAT(harness.events, ElementsAre("1 stop"));
  EXPECT_EQ(harness.scheduler().blocks(0).num_free(), 16) << "free although a row is in flight";
  harness.Submit(MakeRequest(2, 1, 5));
  EXPECT_EQ(harness.Plan(), "+0[0,2)*") << "the slot is given on at once";
  harness.Finish();
  harness.Finish();
  EXPECT_EQ(harness.Tokens(1), std::vector<int32_t>(free_run.begin(), free_run.begin() + 2));
  EXPECT_EQ(harness.Tokens(2), FakeContinuation(MakeRequest(2, 1, 5), harness.vocab()));
}

TEST(PlanAheadTest, TokensInFlightOfAnEndedRequestAreDropped) {
  SchedulerHarness harness(Options());
  const SequenceId id = harness.Submit(MakeRequest(3, 9));
  harness.Plan();
  harness.Plan();
  harness.scheduler().End(id, absl::CancelledError("gone"));
  harness.Finish();
  harness.Plan();
  harness.Finish();
  EXPECT_THAT(harness.Tokens(id), IsEmpty());
  EXPECT_THAT(harness.events, ElementsAre("1 CANCELLED"));
  EXPECT_FALSE(harness.scheduler().HasWork());
}

TEST(PlanAheadTest, MinTokensCountsTheTokenInFlight) {
  GenerationRequest request = MakeRequest(3, 9);
  request.stopping.min_tokens = 2;
  request.stopping.eos_token_ids = {7};
  SchedulerHarness harness(Options());
  harness.Submit(request);
  EXPECT_EQ(harness.Plan(), "+0[0,3)*!");
  EXPECT_EQ(harness.Plan(), "0@3*!");
  harness.Finish();
  EXPECT_EQ(harness.Plan(), "0@4*");
}

TEST(PlanAheadTest, ATimeLimitEndsNormallyWithTheTokensThatAreKnown) {
  GenerationRequest request = MakeRequest(3, 9);
  request.stopping.time_limit = std::chrono::seconds(5);
  SchedulerHarness harness(Options());
  harness.Submit(request, /*at_seconds=*/10);
  harness.Plan(10);
  harness.Finish(12);
  harness.Plan(14);
  EXPECT_EQ(harness.Plan(15), "-");
  EXPECT_THAT(harness.events, ElementsAre("1 time"));
  harness.Finish(15);
  EXPECT_EQ(harness.Tokens(1).size(), 1u);
  EXPECT_EQ(harness.scheduler().blocks(0).num_free(), 16);
}

TEST(PlanAheadTest, ADeadlineIsStrongerThanATimeLimit) {
  GenerationRequest request = MakeRequest(3, 9);
  request.stopping.time_limit = std::chrono::seconds(5);
  request.deadline = At(15);
  SchedulerHarness harness(Options());
  harness.Submit(request, /*at_seconds=*/10);
  EXPECT_EQ(harness.Plan(15), "-");
  EXPECT_THAT(harness.events, ElementsAre("1 DEADLINE_EXCEEDED"));
}

TEST(PlanAheadDeathTest, NoMoreThanTwoPlansAreUncommitted) {
  SchedulerHarness harness(Options());
  harness.Submit(MakeRequest(3, 9));
  harness.Plan();
  harness.Plan();
  EXPECT_DEATH(harness.Plan(), "before those planned were committed");
}

}  // namespace
}  // namespace moed
