// Blocks of computed prompts are found again.
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/runtime/schedule/scheduler_harness.h"

namespace moed {
namespace {

using ::testing::ElementsAre;

SchedulerOptions Options(int num_ranks = 1, int64_t num_blocks = 16) {
  SchedulerOptions options;
  options.num_ranks = num_ranks;
  options.token_budget = 16;
  options.block_size = 4;
  options.num_blocks_per_rank = num_blocks;
  options.max_sequences_per_rank = 8;
  options.experts_per_token = 1;
  return options;
}

void RunAll(SchedulerHarness& harness) {
  for (int i = 0; i < 200 && harness.scheduler().HasWork(); ++i) harness.Step();
}

TEST(PrefixCacheTest, AnEqualPromptComputesItsLastBlockOnly) {
  SchedulerHarness harness(Options());
  harness.Submit(MakeRequest(10, 2));
  RunAll(harness);
  harness.Submit(MakeRequest(10, 2));
  EXPECT_EQ(harness.Step(), "+0[8,10)*");
  RunAll(harness);
  EXPECT_EQ(harness.usage.at({1, 0}).cached_tokens, 0);
  EXPECT_EQ(harness.usage.at({2, 0}).cached_tokens, 8);
  EXPECT_EQ(harness.Tokens(2), harness.Tokens(1));
  EXPECT_EQ(harness.scheduler().counters().prompt_tokens, 20);
  EXPECT_EQ(harness.scheduler().counters().cached_tokens, 8);
}

TEST(PrefixCacheTest, TheLastTokenOfAPromptIsAlwaysComputed) {
  SchedulerHarness harness(Options());
  harness.Submit(MakeRequest(8, 1));
  RunAll(harness);
  harness.Submit(MakeRequest(8, 1));
  EXPECT_EQ(harness.Step(), "+0[4,8)*");
}

TEST(PrefixCacheTest, GeneratedTokensAreFoundAsWell) {
  SchedulerHarness harness(Options());
  harness.Submit(MakeRequest(6, 4));
  RunAll(harness);
  // The next turn of a conversation: what was said, and more.
  GenerationRequest next = MakeRequest(6, 1);
  const std::vector<int32_t>& said = harness.Tokens(1);
  next.prompt_token_ids.insert(next.prompt_token_ids.end(), said.begin(), said.end());
  next.prompt_token_ids.push_back(55);
  harness.Submit(next);
  EXPECT_EQ(harness.Step(), "+0[8,11)*") << "the tenth token was never an input";
}

TEST(PrefixCacheTest, ARunningSequenceSharesItsBlocksFromTheNextStepOn) {
  SchedulerHarness harness(Options());
  harness.Submit(MakeRequest(9, 5));
  harness.Submit(MakeRequest(5, 5));
  EXPECT_EQ(harness.Step(), "+0[0,9)* +1[0,5)*") << "not in the step that fills it";
  harness.Submit(MakeRequest(9, 5));
  EXPECT_EQ(harness.Step(), "0@9* 1@5* +2[8,9)*");
  RunAll(harness);
  EXPECT_EQ(harness.Tokens(3), harness.Tokens(1));
}

struct DomainCase {
  const char* name;
  void (*change)(GenerationRequest&);
  const char* step;  // of the changed request after the plain one
};

TEST(PrefixCacheTest, OnlyWhatGivesTheSameBitsAndMayBeSharedIsShared) {
  const std::vector<DomainCase> cases = {
      {"plain", [](GenerationRequest&) {}, "+0[8,9)*"},
      {"sampling", [](GenerationRequest& r) { r.sampling.temperature = 0.5F; }, "+0[8,9)*"},
      {"the default k by name", [](GenerationRequest& r) { r.experts_per_token = 1; }, "+0[8,9)*"},
      {"another k", [](GenerationRequest& r) { r.experts_per_token = 2; }, "+0[0,9)*"},
      {"salt", [](GenerationRequest& r) { r.cache.salt = "tenant"; }, "+0[0,9)*"},
      {"bypass", [](GenerationRequest& r) { r.cache.bypass = true; }, "+0[0,9)*"},
      {"prompt logprobs", [](GenerationRequest& r) { r.response.num_prompt_logprobs = 0; },
       "+0[0,9)*"},
      {"routed experts", [](GenerationRequest& r) { r.response.routed_experts = true; },
       "+0[0,9)*"},
      {"another second token", [](GenerationRequest& r) { r.prompt_token_ids[1] = 7; }, "+0[0,9)*"},
      {"another sixth token", [](GenerationRequest& r) { r.prompt_token_ids[5] = 7; }, "+0[4,9)*"},
  };
  for (const DomainCase& c : cases) {
    SchedulerHarness harness(Options());
    harness.Submit(MakeRequest(9, 1));
    RunAll(harness);
    GenerationRequest changed = MakeRequest(9, 1);
    c.change(changed);
    harness.Submit(changed);
    EXPECT_EQ(harness.Step(), c.step) << c.name;
    EXPECT_EQ(harness.Tokens(2), FakeContinuation(changed, harness.vocab())) << c.name;
  }
}

TEST(PrefixCacheTest, ABypassLeavesNothingBehind) {
  SchedulerHarness harness(Options());
  GenerationRequest request = MakeRequest(9, 1);
  request.cache.bypass = true;
  harness.Submit(request);
  RunAll(harness);
  EXPECT_EQ(harness.scheduler().blocks(0).num_cached(), 0);
}

TEST(PrefixCacheTest, OffMeansOff) {
  SchedulerOptions options = Options();
  options.prefix_cache = false;
  SchedulerHarness harness(options);
  harness.Submit(MakeRequest(9, 1));
  RunAll(harness);
  harness.Submit(MakeRequest(9, 1));
  EXPECT_EQ(harness.Step(), "+0[0,9)*");
}

TEST(PrefixCacheTest, CachedBlocksMakeRoomForNewOnes) {
  SchedulerHarness harness(Options(1, /*num_blocks=*/4));
  harness.Submit(MakeRequest(13, 1));
  RunAll(harness);
  EXPECT_EQ(harness.scheduler().blocks(0).num_cached(), 3);
  GenerationRequest other = MakeRequest(13, 1);
  for (int32_t& token : other.prompt_token_ids) token += 300;
  harness.Submit(other);
  EXPECT_EQ(harness.Step(), "+0[0,13)*");
  EXPECT_EQ(harness.scheduler().blocks(0).num_evictions(), 3);
}

TEST(PrefixCacheTest, ARequestGoesToTheRankThatHoldsItsLongestPrefix) {
  SchedulerHarness harness(Options(3));
  GenerationRequest first = MakeRequest(9, 1);
  first.scheduling.home_rank = 2;
  harness.Submit(first);
  RunAll(harness);
  harness.Submit(MakeRequest(9, 1));
  EXPECT_EQ(harness.Step(), "- | - | +0[8,9)*");
}

TEST(PrefixCacheTest, ButNotWhereThatRankIsMuchBusier) {
  SchedulerHarness harness(Options(2));
  GenerationRequest warm = MakeRequest(9, 40);
  warm.scheduling.home_rank = 1;
  warm.stopping.max_tokens = 1;
  harness.Submit(warm);
  RunAll(harness);
  for (int i = 0; i <= Scheduler::kLoadSlack; ++i) {
    GenerationRequest busy = MakeRequest(1, 9, 10 + i);
    busy.scheduling.home_rank = 1;
    harness.Submit(busy);
  }
  harness.Step();
  harness.Submit(MakeRequest(9, 1));
  EXPECT_EQ(harness.Step().substr(0, 8), "+0[0,9)*");
}

GenerationRequest BusyRequest(int32_t num_prompt_tokens, int home_rank) {
  GenerationRequest request = MakeRequest(num_prompt_tokens, 1, 5);
  for (int32_t& token : request.prompt_token_ids) token += 300;
  request.scheduling.home_rank = home_rank;
  return request;
}

TEST(PrefixCacheTest, ARequestWaitsForTheRankOfItsPrefixWhereThatIsSooner) {
  SchedulerHarness harness(Options(2));
  GenerationRequest warm = MakeRequest(25, 1);
  warm.scheduling.home_rank = 1;
  harness.Submit(warm);
  RunAll(harness);
  harness.Submit(BusyRequest(20, 1));    // 4 rows are left for the next step
  harness.Submit(MakeRequest(25, 1));    // 24 tokens are cached there
  harness.Submit(MakeRequest(3, 1, 7));  // does not wait behind it
  EXPECT_EQ(harness.Step(), "+0[0,3)* | +0[0,16)");
  EXPECT_EQ(harness.Step(), "- | 0[16,20)* +1[24,25)*");
}

TEST(PrefixCacheTest, AndIsComputedElsewhereWhereThatIs) {
  SchedulerHarness harness(Options(2));
  GenerationRequest warm = MakeRequest(9, 1);
  warm.scheduling.home_rank = 1;
  harness.Submit(warm);
  RunAll(harness);
  harness.Submit(BusyRequest(40, 1));  // 24 rows are left, 8 tokens cached
  harness.Submit(MakeRequest(9, 1));
  EXPECT_EQ(harness.Step(), "+0[0,9)* | +0[0,16)");
}

TEST(PrefixCacheTest, NobodyWaitsForARankWhoseDecodesTakeAllRows) {
  SchedulerOptions options = Options(2);
  options.token_budget = 2;
  SchedulerHarness harness(options);
  GenerationRequest warm = MakeRequest(9, 1);
  warm.scheduling.home_rank = 1;
  harness.Submit(warm);
  RunAll(harness);
  for (int i = 0; i < 2; ++i) {
    GenerationRequest busy = MakeRequest(1, 30, 10 + i);
    busy.scheduling.home_rank = 1;
    harness.Submit(busy);
  }
  harness.Step();
  harness.Submit(MakeRequest(9, 1));
  EXPECT_EQ(harness.Step(), "+0[0,2) | 0@1* 1@1*");
}

TEST(PrefixCacheTest, APreemptedSequenceFindsItsOwnBlocks) {
  SchedulerHarness harness(Options(1, /*num_blocks=*/6));
  GenerationRequest other = MakeRequest(4, 11, 2);
  for (int32_t& token : other.prompt_token_ids) token += 300;
  harness.Submit(MakeRequest(4, 13, 1));
  harness.Submit(other);
  RunAll(harness);
  EXPECT_EQ(harness.scheduler().counters().preemptions, 1);
  EXPECT_LT(harness.scheduler().counters().recomputed_tokens, 11);
  EXPECT_EQ(harness.Tokens(2), FakeContinuation(other, harness.vocab()));
}

}  // namespace
}  // namespace moed
