// n continuations of one prompt.
#include <set>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/runtime/schedule/scheduler_harness.h"

namespace moed {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

SchedulerOptions Options(int64_t num_blocks = 16, int32_t max_sequences = 4) {
  SchedulerOptions options;
  options.token_budget = 16;
  options.block_size = 4;
  options.num_blocks_per_rank = num_blocks;
  options.max_sequences_per_rank = max_sequences;
  return options;
}

GenerationRequest MakeSplit(int32_t num_prompt_tokens, int32_t max_tokens, int32_t n) {
  GenerationRequest request = MakeRequest(num_prompt_tokens, max_tokens);
  request.sampling.n = n;
  return request;
}

void RunAll(SchedulerHarness& harness) {
  for (int i = 0; i < 200 && harness.scheduler().HasWork(); ++i) harness.Step();
  EXPECT_FALSE(harness.scheduler().HasWork());
}

void ExpectSoloTokens(SchedulerHarness& harness, SequenceId id, const GenerationRequest& request) {
  for (int32_t choice = 0; choice < request.sampling.n; ++choice) {
    EXPECT_EQ(harness.Tokens(id, choice), FakeContinuation(request, harness.vocab(), choice))
        << "choice " << choice;
  }
}

TEST(SplitTest, ThePromptIsComputedOnceAndItsFullBlocksAreShared) {
  SchedulerHarness harness(Options());
  const GenerationRequest request = MakeSplit(6, 4, 3);
  harness.Submit(request);
  EXPECT_EQ(harness.Step(), "+0[0,6)*/1/2");
  EXPECT_EQ(harness.scheduler().blocks(0).num_free(), 14);
  EXPECT_EQ(harness.Step(), "0@6* 1@6* 2@6*");
  const RankBatch& batch = harness.plan().batches[0];
  EXPECT_EQ(harness.scheduler().blocks(0).num_free(), 12) << "one block shared, three of their own";
  ASSERT_EQ(batch.block_copies.size(), 2u);
  EXPECT_EQ(batch.block_copies[0].from, 1);
  EXPECT_THAT(batch.chunks[1].new_blocks, ElementsAre(0, batch.block_copies[0].to));
  EXPECT_THAT(batch.chunks[2].new_blocks, ElementsAre(0, batch.block_copies[1].to));
  RunAll(harness);
  ExpectSoloTokens(harness, 1, request);
  EXPECT_EQ(harness.scheduler().blocks(0).num_free(), 16);
}

TEST(SplitTest, AFullLastBlockIsNotCopied) {
  SchedulerHarness harness(Options());
  const GenerationRequest request = MakeSplit(8, 4, 2);
  harness.Submit(request);
  harness.Step();
  EXPECT_EQ(harness.Step(), "0@8* 1@8*");
  EXPECT_TRUE(harness.plan().batches[0].block_copies.empty());
  RunAll(harness);
  ExpectSoloTokens(harness, 1, request);
}

TEST(SplitTest, TheLastHolderOfASharedBlockTakesItOver) {
  GenerationRequest request = MakeSplit(6, 4, 2);
  request.stopping.eos_token_ids = {FakeContinuation(request, 1000, 0)[0]};
  SchedulerHarness harness(Options());
  harness.Submit(request);
  harness.Step();
  EXPECT_THAT(harness.events, ElementsAre("1 stop"));
  EXPECT_EQ(harness.Step(), "1@6*");
  EXPECT_TRUE(harness.plan().batches[0].block_copies.empty());
  RunAll(harness);
  ExpectSoloTokens(harness, 1, request);
}

// It preempted itself although the block was its own by then (found by the simulation).
TEST(SplitTest, TheFirstStaysWhenAnotherGivesUpTheBlockTheyShare) {
  GenerationRequest request = MakeSplit(1, 2, 3);
  request.stopping.eos_token_ids = {FakeContinuation(request, 1000, 0)[0]};
  SchedulerHarness harness(Options(/*num_blocks=*/1));
  harness.Submit(request);
  harness.Step();
  EXPECT_THAT(harness.events, ElementsAre("1 stop"));
  EXPECT_EQ(harness.Step(), "1@1*") << "the third continuation gives way to the second";
  RunAll(harness);
  EXPECT_EQ(harness.scheduler().counters().preemptions, 1);
  EXPECT_EQ(harness.Tokens(1, 1), FakeContinuation(request, harness.vocab(), 1));
  EXPECT_EQ(harness.Tokens(1, 2), FakeContinuation(request, harness.vocab(), 2));
}

TEST(SplitTest, WaitsForASlotForEach) {
  SchedulerHarness harness(Options(16, /*max_sequences=*/3));
  harness.Submit(MakeRequest(1, 2, 9));
  harness.Submit(MakeSplit(2, 2, 3));
  EXPECT_EQ(harness.Step(), "+0[0,1)*");
  EXPECT_EQ(harness.Step(), "0@1*");
  EXPECT_EQ(harness.Step(), "+0[0,2)*/1/2");
}

TEST(SplitTest, RefusesMoreThanARankHasSlots) {
  Scheduler scheduler(Options(16, /*max_sequences=*/3));
  const auto refused = scheduler.Submit(MakeSplit(2, 2, 4), At(0));
  EXPECT_EQ(refused.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(refused.status().message()), HasSubstr("n must be in [1, 3]"));
}

TEST(SplitTest, OneContinuationCanEndOrGiveWayWithoutTheOthers) {
  // Room for one of them to its end, so that the others are preempted on the way.
  SchedulerHarness harness(Options(/*num_blocks=*/5));
  const GenerationRequest request = MakeSplit(6, 12, 3);
  const SequenceId id = harness.Submit(request);
  for (int i = 0; i < 4; ++i) harness.Step();
  harness.scheduler().EndChoice(id, 1);
  const std::vector<int32_t> known = harness.Tokens(id, 1);
  RunAll(harness);
  EXPECT_GT(harness.scheduler().counters().preemptions, 0);
  EXPECT_EQ(harness.Tokens(id, 1), known);
  for (const int32_t choice : {0, 2}) {
    EXPECT_EQ(harness.Tokens(id, choice), FakeContinuation(request, harness.vocab(), choice));
  }
  EXPECT_THAT(harness.events, ElementsAre("1 length", "1.2 length"));
}

TEST(SplitTest, IsPreemptedAsOneBeforeItsPromptIsComputed) {
  SchedulerOptions options = Options(/*num_blocks=*/8, /*max_sequences=*/4);
  options.token_budget = 4;
  SchedulerHarness harness(options);
  harness.Submit(MakeRequest(4, 16, 7));
  const GenerationRequest request = MakeSplit(18, 3, 3);
  harness.Submit(request);
  RunAll(harness);
  ExpectSoloTokens(harness, 2, request);
}

TEST(SplitTest, ATimeLimitEndsThoseThatAreNotThereYet) {
  GenerationRequest request = MakeSplit(20, 4, 3);
  request.stopping.time_limit = std::chrono::seconds(1);
  SchedulerHarness harness(Options());
  harness.Submit(request);
  harness.Step(0);
  harness.Step(2);
  EXPECT_THAT(harness.events, ElementsAre("1 time", "1.1 time", "1.2 time"));
  EXPECT_FALSE(harness.scheduler().HasWork());
}

TEST(SplitTest, ReportsOfThePromptComeOnceAndOthersOfEachChoice) {
  GenerationRequest request = MakeSplit(5, 3, 2);
  request.response.num_prompt_logprobs = 0;
  request.response.routed_experts = true;
  SchedulerHarness harness(Options());
  harness.Submit(request);
  RunAll(harness);
  for (const int32_t choice : {0, 1}) {
    FakeSolo solo(FakeModel(), request, choice);
    while (solo.Next()) {
    }
    std::vector<int16_t> experts;
    size_t num_logprobs = 0;
    for (const SequenceReport& report : harness.reports) {
      if (report.choice != choice) continue;
      experts.insert(experts.end(), report.report.routed_experts.begin(),
                     report.report.routed_experts.end());
      num_logprobs += report.report.prompt_logprobs.size();
    }
    std::vector<int16_t> expected = solo.routed_experts;
    if (choice == 1) expected.erase(expected.begin(), expected.begin() + 5 * 2);
    EXPECT_EQ(experts, expected) << "choice " << choice;
    EXPECT_EQ(num_logprobs, choice == 0 ? 4u : 0u);
  }
}

}  // namespace
}  // namespace moed
