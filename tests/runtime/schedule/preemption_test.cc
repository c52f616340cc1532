// What gives way when KV blocks run out, and who is served first.
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/runtime/schedule/scheduler_harness.h"

namespace moed {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

SchedulerOptions Options(int64_t num_blocks, int32_t max_sequences = 8, int32_t budget = 16) {
  SchedulerOptions options;
  options.token_budget = budget;
  options.block_size = 4;
  options.num_blocks_per_rank = num_blocks;
  options.max_sequences_per_rank = max_sequences;
  options.prefix_cache = false;
  return options;
}

std::vector<std::string> RunAll(SchedulerHarness& harness) {
  std::vector<std::string> steps;
  while (harness.scheduler().HasWork() && steps.size() < 100) steps.push_back(harness.Step());
  return steps;
}

TEST(PreemptionTest, TheLastInTheOrderGivesWayAndGoesOnWithoutAGap) {
  // Five blocks for two sequences that grow to three each.
  SchedulerHarness harness(Options(5));
  harness.Submit(MakeRequest(4, 7, 1));
  harness.Submit(MakeRequest(3, 7, 2));
  EXPECT_THAT(RunAll(harness),
              ElementsAre("+0[0,4)* +1[0,3)*", "0@4* 1@3*", "0@5* 1@4*", "0@6* 1@5*", "0@7* 1@6*",
                          "0@8* 1@7*", "0@9*",  // no sixth block: the second has to wait
                          "+0[0,9)*"));         // its prompt and the six tokens that it had drawn
  EXPECT_THAT(harness.events, ElementsAre("1 length", "2 length"));
  EXPECT_EQ(harness.Tokens(1), FakeContinuation(MakeRequest(4, 7, 1), harness.vocab()));
  EXPECT_EQ(harness.Tokens(2), FakeContinuation(MakeRequest(3, 7, 2), harness.vocab()));
  const auto& usage = harness.usage;
  EXPECT_EQ(usage.at({1, 0}).num_preemptions, 0);
  EXPECT_EQ(usage.at({2, 0}).num_preemptions, 1);
  EXPECT_EQ(harness.scheduler().counters().preemptions, 1);
  EXPECT_EQ(harness.scheduler().counters().recomputed_tokens, 8);  // not the last it drew
  EXPECT_EQ(harness.scheduler().blocks(0).num_free(), 5);
}

TEST(PreemptionTest, WhoNeedsABlockAndIsTheLastGivesWayItself) {
  SchedulerHarness harness(Options(5));
  harness.Submit(MakeRequest(7, 2, 1));   // two blocks
  harness.Submit(MakeRequest(1, 12, 2));  // one block, three at its end
  harness.Submit(MakeRequest(4, 9, 3));   // one block, three at its end
  const std::vector<std::string> steps = RunAll(harness);
  EXPECT_EQ(steps[0], "+0[0,7)* +1[0,1)*") << "the third would leave no block to grow into";
  for (SequenceId id = 1; id <= 3; ++id) {
    EXPECT_EQ(harness.usage.at({id, 0}).num_preemptions, id == 3 ? 1 : 0) << id;
  }
}

TEST(PreemptionTest, AnotherRankWithRoomBecomesTheHome) {
  SchedulerOptions options = Options(5);
  options.num_ranks = 2;
  SchedulerHarness harness(options);
  GenerationRequest pinned = MakeRequest(4, 13, 1);
  pinned.scheduling.home_rank = 0;
  harness.Submit(pinned);
  GenerationRequest filler = MakeRequest(4, 2, 3);
  filler.scheduling.home_rank = 1;
  harness.Submit(filler);  // makes rank 0 the emptier one for the next
  GenerationRequest second_filler = filler;
  second_filler.sampling.seed = 4;
  harness.Submit(second_filler);
  harness.Submit(MakeRequest(4, 13, 2));
  EXPECT_EQ(harness.Step(), "+0[0,4)* +1[0,4)* | +0[0,4)* +1[0,4)*");
  std::string moved;
  while (harness.scheduler().HasWork() && moved.empty()) {
    harness.Step();
    if (!harness.plan().batches[1].admitted.empty()) moved = BatchText(harness.plan().batches[1]);
  }
  EXPECT_EQ(moved, "+0[0,9)*");
  RunAll(harness);
  EXPECT_EQ(harness.Tokens(4), FakeContinuation(MakeRequest(4, 13, 2), harness.vocab()));
}

TEST(PreemptionTest, HigherPriorityIsServedEarlierAndWaitingCountsToo) {
  SchedulerOptions options = Options(64, /*max_sequences=*/1);
  options.ageing = std::chrono::seconds(10);
  const auto priority = [](int32_t level, uint64_t seed) {
    GenerationRequest request = MakeRequest(1, 1, seed);
    request.scheduling.priority = level;
    return request;
  };
  SchedulerHarness harness(options);
  harness.Submit(priority(0, 1), 100);
  harness.Submit(priority(1, 2), 109);  // as if it had come at 99
  harness.Submit(priority(2, 3), 121);  // as if it had come at 101
  harness.Submit(priority(-1, 4), 90);  // as if it had come at 100, after the first
  RunAll(harness);
  EXPECT_THAT(harness.events, ElementsAre("2 length", "1 length", "4 length", "3 length"));
}

TEST(PreemptionTest, TheLowestPriorityGivesWayFirst) {
  SchedulerHarness harness(Options(5));
  GenerationRequest low = MakeRequest(4, 7, 1);
  low.scheduling.priority = -5;
  harness.Submit(low);
  harness.Submit(MakeRequest(3, 7, 2));
  RunAll(harness);
  EXPECT_EQ(harness.usage.at({1, 0}).num_preemptions, 1);
  EXPECT_EQ(harness.usage.at({2, 0}).num_preemptions, 0);
}

TEST(PreemptionTest, APinnedRequestBlocksItsRankAlone) {
  SchedulerOptions options = Options(64, /*max_sequences=*/1);
  options.num_ranks = 2;
  SchedulerHarness harness(options);
  GenerationRequest pinned = MakeRequest(1, 3, 1);
  pinned.scheduling.home_rank = 0;
  harness.Submit(pinned);
  pinned.sampling.seed = 2;
  harness.Submit(pinned);
  harness.Submit(MakeRequest(2, 1, 3));
  EXPECT_EQ(harness.Step(), "+0[0,1)* | +0[0,2)*");
}

TEST(PreemptionTest, RefusesAHomeRankThatDoesNotExist) {
  Scheduler scheduler(Options(4));
  GenerationRequest request = MakeRequest(1, 1);
  request.scheduling.home_rank = 1;
  const auto refused = scheduler.Submit(request, At(0));
  EXPECT_EQ(refused.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(refused.status().message()), HasSubstr("home_rank must be in [0, 1)"));
}

TEST(PreemptionTest, ATokenOfAStepInFlightIsKept) {
  SchedulerHarness harness(Options(5));
  harness.Submit(MakeRequest(4, 7, 1));
  harness.Submit(MakeRequest(3, 7, 2));
  for (int i = 0; i < 5; ++i) harness.Step();
  EXPECT_EQ(harness.Plan(), "0@8* 1@7*");
  EXPECT_EQ(harness.Plan(), "0@9*") << "the second gives way while its sixth token is drawn";
  EXPECT_EQ(harness.Tokens(2).size(), 5u);
  harness.Finish();
  EXPECT_EQ(harness.Tokens(2).size(), 6u);
  EXPECT_EQ(harness.Plan(), "-") << "its blocks are still those of the first";
  harness.Finish();
  EXPECT_EQ(harness.Step(), "+0[0,9)*");
  EXPECT_EQ(harness.Tokens(2), FakeContinuation(MakeRequest(3, 7, 2), harness.vocab()));
}

}  // namespace
}  // namespace moed
