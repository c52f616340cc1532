#include "runtime/schedule/scheduler.h"

#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/runtime/schedule/scheduler_harness.h"

namespace moed {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

SchedulerOptions Options(int num_ranks, int32_t budget, int64_t num_blocks = 64,
                         int32_t max_sequences = 8) {
  SchedulerOptions options;
  options.num_ranks = num_ranks;
  options.token_budget = budget;
  options.block_size = 4;
  options.num_blocks_per_rank = num_blocks;
  options.max_sequences_per_rank = max_sequences;
  return options;
}

// The home rank of every request admitted in the step; seeds number them from 0.
std::vector<int> HomeRanks(const StepPlan& plan) {
  std::vector<int> ranks(6, -1);
  for (size_t rank = 0; rank < plan.batches.size(); ++rank) {
    for (const SlotInit& init : plan.batches[rank].admitted) ranks[init.sampling.seed] = rank;
  }
  return ranks;
}

// Steps until nothing is left, at most 100 of them.
std::vector<std::string> RunAll(SchedulerHarness& harness) {
  std::vector<std::string> steps;
  while (harness.scheduler().HasWork() && steps.size() < 100) steps.push_back(harness.Step());
  return steps;
}

TEST(SchedulerTest, APromptIsCutToTheBudgetAndThenDecodes) {
  SchedulerHarness harness(Options(1, 4));
  harness.Submit(MakeRequest(10, 3));
  EXPECT_THAT(RunAll(harness), ElementsAre("+0[0,4)", "0[4,8)", "0[8,10)*", "0@10*", "0@11*"));
  EXPECT_THAT(harness.events, ElementsAre("1 length"));
  EXPECT_EQ(harness.Tokens(1), FakeContinuation(MakeRequest(10, 3), harness.vocab()));
}

TEST(SchedulerTest, DecodesComeFirstAndALongPromptFillsTheRest) {
  SchedulerHarness harness(Options(1, 4));
  harness.Submit(MakeRequest(2, 5));
  harness.Submit(MakeRequest(8, 1));
  EXPECT_THAT(RunAll(harness),
              ElementsAre("+0[0,2)* +1[0,2)", "0@2* 1[2,5)", "0@3* 1[5,8)*", "0@4*", "0@5*"));
}

TEST(SchedulerTest, TheLastTokenNeedsNoKvSlot) {
  // 5 + 4 - 1 = 8 tokens are two blocks of 4; with 5 more tokens it would be three.
  SchedulerHarness harness(Options(1, 8, /*num_blocks=*/2));
  harness.Submit(MakeRequest(5, 4));
  RunAll(harness);
  EXPECT_EQ(harness.Tokens(1).size(), 4u);
  const auto refused = harness.scheduler().Submit(MakeRequest(5, 5), At(0));
  EXPECT_EQ(refused.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(refused.status().message()),
              HasSubstr("prompt of 5 tokens with max_tokens 5 needs 3 KV blocks of 4 tokens; "
                        "there are 2"));
}

TEST(SchedulerTest, RefusesARequestThatAsksForNothing) {
  SchedulerHarness harness(Options(1, 8));
  EXPECT_EQ(harness.scheduler().Submit(MakeRequest(0, 1), At(0)).status().code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(harness.scheduler().Submit(MakeRequest(1, 0), At(0)).status().code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_FALSE(harness.scheduler().HasWork());
}

TEST(SchedulerTest, HomeRankHasTheFewestSequencesThenTheMostBlocks) {
  SchedulerHarness harness(Options(3, 64));
  harness.Submit(MakeRequest(20, 9, 0));  // all equal: rank 0, five blocks
  harness.Submit(MakeRequest(9, 9, 1));   // rank 1, three
  harness.Submit(MakeRequest(1, 9, 2));   // rank 2, one
  harness.Submit(MakeRequest(1, 9, 3));   // one sequence each: rank 2 has the most blocks
  harness.Submit(MakeRequest(1, 9, 4));   // rank 1
  harness.Submit(MakeRequest(1, 9, 5));   // rank 0 has the fewest blocks, and one sequence less
  harness.Step();
  EXPECT_THAT(HomeRanks(harness.plan()), ElementsAre(0, 1, 2, 2, 1, 0));
}

TEST(SchedulerTest, ARankWhosePromptsFillTheStepIsNoHome) {
  SchedulerHarness harness(Options(2, 4));
  harness.Submit(MakeRequest(9, 2));
  harness.Submit(MakeRequest(1, 2));
  harness.Submit(MakeRequest(1, 2));
  EXPECT_EQ(harness.Step(), "+0[0,4) | +0[0,1)* +1[0,1)*");
}

TEST(SchedulerTest, WithoutBlocksTheHeadOfTheQueueMakesAllWait) {
  SchedulerHarness harness(Options(1, 16, /*num_blocks=*/4));
  harness.Submit(MakeRequest(4, 4));   // one block, soon two
  harness.Submit(MakeRequest(12, 2));  // three blocks and one for the other to grow: waits
  harness.Submit(MakeRequest(1, 1));   // would fit, but waits its turn
  EXPECT_THAT(RunAll(harness), ElementsAre("+0[0,4)*", "0@4*", "0@5*", "0@6*",
                                           // What the first has computed is found again.
                                           "+0[4,12)*", "0@12*", "+0[0,1)*"));
  EXPECT_THAT(harness.events, ElementsAre("1 length", "2 length", "3 length"));
}

TEST(SchedulerTest, WithoutSlotsNewWorkWaits) {
  SchedulerHarness harness(Options(1, 16, 64, /*max_sequences=*/1));
  harness.Submit(MakeRequest(1, 2));
  harness.Submit(MakeRequest(1, 1));
  EXPECT_THAT(RunAll(harness), ElementsAre("+0[0,1)*", "0@1*", "+0[0,1)*"));
}

TEST(SchedulerTest, NeverMoreSequencesThanRows) {
  // Three slots, but a budget of two rows: a third decode would have to wait in some steps.
  SchedulerHarness harness(Options(1, 2, 64, /*max_sequences=*/3));
  for (int i = 0; i < 3; ++i) harness.Submit(MakeRequest(1, 2));
  EXPECT_THAT(RunAll(harness), ElementsAre("+0[0,1)* +1[0,1)*", "0@1* 1@1*", "+0[0,1)*", "0@1*"));
}

TEST(SchedulerTest, ARankWithoutRowsStillGetsItsBatch) {
  SchedulerHarness harness(Options(3, 8));
  harness.Submit(MakeRequest(2, 1));
  EXPECT_EQ(harness.Step(), "+0[0,2)* | - | -");
  for (const RankBatch& batch : harness.plan().batches) {
    EXPECT_EQ(batch.step, 1u);
    EXPECT_EQ(batch.exchange, ExchangeStrategy::kExact);
  }
}

TEST(SchedulerTest, ExchangeIsTheSameOnAllRanks) {
  SchedulerOptions options = Options(2, 8);
  options.exchange.max_gather_rows = 8;
  SchedulerHarness harness(options);
  harness.Submit(MakeRequest(5, 1));
  harness.Submit(MakeRequest(2, 1));
  harness.Step();
  for (const RankBatch& batch : harness.plan().batches) {
    EXPECT_EQ(batch.exchange, ExchangeStrategy::kGather);
    EXPECT_EQ(batch.padded_rows, 5);
  }
}

TEST(SchedulerTest, AFullQueueRefusesWithItsLength) {
  SchedulerOptions options = Options(1, 8);
  options.max_waiting = 2;
  SchedulerHarness harness(options);
  harness.Submit(MakeRequest(1, 1));
  harness.Submit(MakeRequest(1, 1));
  const auto refused = harness.scheduler().Submit(MakeRequest(1, 1), At(0));
  EXPECT_EQ(refused.status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(refused.status().message()), HasSubstr("2 requests wait"));
  harness.Step();
  harness.Submit(MakeRequest(1, 1));
}

struct StopCase {
  const char* name;
  int32_t min_tokens;
  bool as_eos;             // of the second token; else as a stop token
  size_t expected_tokens;  // of at most 5
  const char* event;
};

TEST(SchedulerTest, EndsAtEosAndStopTokensButNotBeforeMinTokens) {
  const GenerationRequest plain = MakeRequest(3, 5, /*seed=*/9);
  const std::vector<int32_t> free_run = FakeContinuation(plain, 1000);
  const std::vector<StopCase> cases = {
      {"eos", 0, true, 2, "1 stop"},
      {"stop token", 0, false, 2, "1 stop"},
      {"min_tokens reached before it", 1, true, 2, "1 stop"},
      {"suppressed by min_tokens", 2, true, 5, "1 length"},
      {"suppressed by min_tokens, stop token", 2, false, 5, "1 length"},
  };
  for (const StopCase& c : cases) {
    GenerationRequest request = plain;
    request.stopping.min_tokens = c.min_tokens;
    auto& ids = c.as_eos ? request.stopping.eos_token_ids : request.stopping.stop_token_ids;
    ids = {free_run[1]};
    SchedulerHarness harness(Options(1, 8));
    harness.Submit(request);
    RunAll(harness);
    EXPECT_EQ(harness.Tokens(1).size(), c.expected_tokens) << c.name;
    EXPECT_EQ(harness.Tokens(1), FakeContinuation(request, harness.vocab())) << c.name;
    EXPECT_THAT(harness.events, ElementsAre(c.event)) << c.name;
  }
}

TEST(SchedulerTest, SuppressesEosAndStopIdsUntilMinTokens) {
  GenerationRequest request = MakeRequest(1, 4);
  request.stopping.min_tokens = 2;
  request.stopping.eos_token_ids = {7, 3};
  request.stopping.stop_token_ids = {5, 7};
  SchedulerHarness harness(Options(1, 8));
  harness.Submit(request);
  EXPECT_EQ(harness.Step(), "+0[0,1)*!");
  EXPECT_THAT(harness.plan().batches[0].admitted[0].suppressed_token_ids, ElementsAre(3, 5, 7));
  EXPECT_EQ(harness.Step(), "0@1*!");
  EXPECT_EQ(harness.Step(), "0@2*");
}

TEST(SchedulerTest, WithoutMinTokensNothingIsSuppressed) {
  GenerationRequest request = MakeRequest(1, 1);
  request.stopping.eos_token_ids = {7};
  SchedulerHarness harness(Options(1, 8));
  harness.Submit(request);
  EXPECT_EQ(harness.Step(), "+0[0,1)*");
  EXPECT_THAT(harness.plan().batches[0].admitted[0].suppressed_token_ids, IsEmpty());
}

TEST(SchedulerTest, ADeadlineEndsARequestInTheQueueWithoutWork) {
  SchedulerHarness harness(Options(1, 8));
  GenerationRequest late = MakeRequest(4, 4);
  late.deadline = At(5);
  harness.Submit(late);
  EXPECT_EQ(harness.Step(5), "-");
  EXPECT_THAT(harness.events, ElementsAre("1 DEADLINE_EXCEEDED"));
  EXPECT_FALSE(harness.scheduler().HasWork());
  EXPECT_EQ(harness.scheduler().counters().steps, 0u);
}

TEST(SchedulerTest, ADeadlineEndsADecodeAndItsBlocksServeTheNextStep) {
  SchedulerHarness harness(Options(1, 8, /*num_blocks=*/2));
  GenerationRequest late = MakeRequest(4, 5);
  late.deadline = At(10);
  harness.Submit(late);
  harness.Submit(MakeRequest(4, 5));
  EXPECT_EQ(harness.Step(1), "+0[0,4)*");
  EXPECT_EQ(harness.Step(9), "0@4*");
  EXPECT_EQ(harness.Step(10), "+0[0,4)*");
  EXPECT_THAT(harness.events, ElementsAre("1 DEADLINE_EXCEEDED"));
}

TEST(SchedulerTest, EndingWhileAStepRunsDropsItsTokenAndFreesBeforeTheNext) {
  SchedulerHarness harness(Options(1, 8, /*num_blocks=*/2));
  const SequenceId first = harness.Submit(MakeRequest(4, 5));
  harness.Submit(MakeRequest(4, 5));
  EXPECT_EQ(harness.Plan(), "+0[0,4)*");
  harness.scheduler().End(first, absl::CancelledError("gone"));
  harness.scheduler().End(first, absl::InternalError("the first reason counts"));
  harness.Finish();
  EXPECT_THAT(harness.Tokens(first), IsEmpty());
  EXPECT_EQ(harness.Step(), "+0[0,4)*");
  EXPECT_THAT(harness.events, ElementsAre("1 CANCELLED"));
}

TEST(SchedulerTest, EndingWhatHasEndedChangesNothing) {
  SchedulerHarness harness(Options(1, 8));
  const SequenceId id = harness.Submit(MakeRequest(1, 1));
  harness.Step();
  harness.scheduler().End(id, absl::CancelledError("too late"));
  harness.scheduler().End(id + 1, absl::CancelledError("nobody"));
  EXPECT_EQ(harness.Step(), "-");
  EXPECT_THAT(harness.events, ElementsAre("1 length"));
}

TEST(SchedulerTest, EndAllTellsEverySequenceAndFreesAll) {
  SchedulerHarness harness(Options(2, 4, /*num_blocks=*/4, /*max_sequences=*/1));
  for (int i = 0; i < 4; ++i) harness.Submit(MakeRequest(6, 4));
  harness.Step();
  harness.Plan();
  const auto ended = harness.scheduler().EndAll(absl::UnavailableError("closing"), At(3));
  EXPECT_EQ(ended.size(), 4u);
  EXPECT_FALSE(harness.scheduler().HasWork());
  for (int rank = 0; rank < 2; ++rank) {
    EXPECT_EQ(harness.scheduler().blocks(rank).num_free(), 4);
  }
}

TEST(SchedulerTest, AnAnswerThatDoesNotFitThePlanIsRefused) {
  SchedulerHarness harness(Options(2, 8));
  harness.Submit(MakeRequest(2, 2));
  harness.Plan();
  std::vector<RankResult> results(2);
  results[0].step = results[1].step = 1;
  results[0].samples = {{0, 5, 0, {}}};
  const auto code = [&](const std::vector<RankResult>& answer) {
    return harness.scheduler().Commit(answer, At(0)).status().code();
  };
  EXPECT_EQ(code({results[0]}), absl::StatusCode::kInternal) << "a rank is missing";
  std::vector<RankResult> broken = results;
  broken[1].step = 2;
  EXPECT_EQ(code(broken), absl::StatusCode::kInternal) << "another step";
  broken = results;
  broken[1].samples = {{0, 5, 0, {}}};
  EXPECT_EQ(code(broken), absl::StatusCode::kInternal) << "a token that nobody asked for";
  broken = results;
  broken[0].samples[0].slot = 3;
  EXPECT_EQ(code(broken), absl::StatusCode::kInternal) << "another slot";
  EXPECT_EQ(code(results), absl::StatusCode::kOk);
}

TEST(SchedulerTest, TimesAreThoseOfPlanAndCommit) {
  Scheduler scheduler(Options(1, 8));
  ASSERT_TRUE(scheduler.Submit(MakeRequest(2, 1), At(0)).ok());
  const StepPlan plan = scheduler.Plan(At(2));
  RankResult result;
  result.step = 1;
  result.samples = {{0, 5, 0, {}}};
  const auto output = scheduler.Commit({result}, At(3));
  ASSERT_TRUE(output.ok());
  EXPECT_EQ(output->tokens[0].scheduled_at, At(2));
  EXPECT_EQ(output->tokens[0].sampled_at, At(3));
}

}  // namespace
}  // namespace moed
