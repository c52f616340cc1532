// Continuations of one prompt, and copies of blocks.
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "tests/runtime/engine/worker_group_fixture.h"
#include "tests/runtime/engine/worker_harness.h"

namespace moed {
namespace {

constexpr int32_t kNumTokens = 6;

// Each choice of the request as a request of its own.
std::vector<HarnessOutput> RunChoicesAlone(const HarnessRequest& request) {
  std::vector<HarnessOutput> outputs;
  for (int32_t choice = 0; choice < request.init.sampling.n; ++choice) {
    HarnessRequest alone = request;
    alone.init.sampling.n = 1;
    alone.init.choice_index = static_cast<uint32_t>(choice);
    alone.preempted_after.clear();
    alone.chunk_tokens = 0;
    outputs.push_back(RunRequests(SmallHarnessOptions(1), {alone}).outputs.at(0));
  }
  return outputs;
}

void ExpectChoicesSame(const HarnessOutput& together, const std::vector<HarnessOutput>& alone,
                       const std::string& place) {
  ASSERT_EQ(together.forks.size() + 1, alone.size());
  ExpectSame(together, alone[0], absl::StrCat(place, ", choice 0"));
  for (size_t i = 0; i < together.forks.size(); ++i) {
    ExpectSame(together.forks[i], alone[i + 1], absl::StrCat(place, ", choice ", i + 1));
  }
}

// Lengths around the ends of blocks of four tokens.
constexpr int32_t kLengths[] = {1, 3, 4, 5, 8, 11};

TEST(WorkerForkTest, EveryChoiceDrawsWhatItDrawsAlone) {
  for (const int num_ranks : {1, 3}) {
    for (const int32_t length : kLengths) {
      HarnessRequest request =
          SmallRequest(length, kNumTokens, 40U + static_cast<uint64_t>(length));
      request.init.sampling.n = 4;
      request.init.num_logprobs = 0;
      request.home_rank = 2;
      request.chunk_tokens = 3;
      const auto run = RunRequests(SmallHarnessOptions(num_ranks), {request});
      const auto alone = RunChoicesAlone(request);
      ExpectChoicesSame(run.outputs.at(0), alone, absl::StrCat(num_ranks, " ranks, ", length));
      // Else the streams are one.
      EXPECT_NE(TokenIds(alone[0]), TokenIds(alone[1]));
    }
  }
}

TEST(WorkerForkTest, ThePromptIsComputedOnce) {
  HarnessRequest request = SmallRequest(11, kNumTokens, 3);
  request.init.sampling.n = 5;
  const auto run = RunRequests(SmallHarnessOptions(1), {request});
  // The last token drawn is not fed back.
  EXPECT_EQ(run.num_rows, 11 + 5 * (kNumTokens - 1));
}

TEST(WorkerForkTest, AChoiceThatLostItsCacheGoesOnAsItWouldHave) {
  for (const int32_t length : kLengths) {
    HarnessRequest request = SmallRequest(length, kNumTokens, 70U + static_cast<uint64_t>(length));
    request.init.sampling.n = 3;
    request.preempted_after = {2, 3};
    const auto run = RunRequests(SmallHarnessOptions(2), {request});
    ExpectChoicesSame(run.outputs.at(0), RunChoicesAlone(request), absl::StrCat("prompt ", length));
  }
}

TEST(WorkerForkTest, ForksHaveTheirOwnParameters) {
  ThreadWorkerGroup group(SmallGroupOptions(1));
  ASSERT_TRUE(group.Start(nullptr).ok());
  std::vector<RankBatch> batches = EmptyBatches(1, 1);
  SlotInit biased = GreedySlot(2);
  biased.sampling.logit_bias = {{17, 100.0F}};
  biased.num_logprobs = 2;
  SlotInit suppressing = GreedySlot(3);
  suppressing.suppressed_token_ids = {17};
  suppressing.sampling.logit_bias = {{17, 100.0F}, {18, 50.0F}};
  batches[0].admitted = {GreedySlot(0), biased, suppressing};
  batches[0].chunks = {SamplingChunk(0, 0, {5, 6, 7}, {2})};
  batches[0].chunks[0].fork_slots = {3, 2};
  batches[0].chunks[0].suppress = true;
  const auto results = RunStep(group, std::move(batches));
  ASSERT_TRUE(results.ok()) << results.status();
  const std::vector<SampledToken>& samples = results->at(0).samples;
  ASSERT_EQ(samples.size(), 3U);
  EXPECT_EQ(samples[0].slot, 0);
  EXPECT_NE(samples[0].token_id, 17);
  EXPECT_TRUE(samples[0].top_logprobs.empty());
  EXPECT_EQ(samples[1].slot, 3);
  EXPECT_EQ(samples[1].token_id, 18);
  EXPECT_EQ(samples[2].slot, 2);
  EXPECT_EQ(samples[2].token_id, 17);
  EXPECT_EQ(samples[2].top_logprobs.size(), 2U);
}

class BlockCopyTest : public testing::Test {
 protected:
  BlockCopyTest() : group_(SmallGroupOptions(1)) {}
  void SetUp() override {
    ASSERT_TRUE(group_.Start(nullptr).ok());
    // Two prompts that fill a block each: the first in 0, the other in 1.
    std::vector<RankBatch> batches = EmptyBatches(1, 1);
    batches[0].admitted = {GreedySlot(0), GreedySlot(1)};
    batches[0].chunks = {SamplingChunk(0, 0, {5, 6, 7, 8}, {0}),
                         SamplingChunk(1, 0, {50, 61, 72, 83}, {1})};
    ASSERT_TRUE(RunStep(group_, std::move(batches)).ok());
  }

  // The logprob that follows token 9 after what `block` holds once the copies are made.
  float After(std::vector<BlockCopy> copies, int32_t block) {
    std::vector<RankBatch> batches = EmptyBatches(2, 1);
    batches[0].admitted = {GreedySlot(2)};
    batches[0].block_copies = std::move(copies);
    batches[0].chunks = {SamplingChunk(2, 4, {9}, {block, 15})};
    const auto results = RunStep(group_, std::move(batches));
    EXPECT_TRUE(results.ok()) << results.status();
    return results.ok() ? results->at(0).samples.at(0).logprob : 0;
  }

  ThreadWorkerGroup group_;
};

TEST_F(BlockCopyTest, ACopyHoldsWhatTheBlockHeld) {
  const float first = After({}, 0);
  const float other = After({}, 1);
  ASSERT_NE(first, other);
  EXPECT_EQ(After({{.from = 0, .to = 5}}, 5), first);
  EXPECT_EQ(After({{.from = 1, .to = 5}}, 5), other);
  EXPECT_EQ(After({}, 0), first) << "the source changed";
}

TEST_F(BlockCopyTest, CopiesAreMadeInTheirOrder) {
  const float first = After({}, 0);
  const float other = After({}, 1);
  EXPECT_EQ(After({{.from = 0, .to = 5}, {.from = 5, .to = 6}}, 6), first);
  // The source is taken before it is overwritten.
  EXPECT_EQ(After({{.from = 0, .to = 7}, {.from = 1, .to = 0}}, 7), first);
  EXPECT_EQ(After({}, 0), other);
}

TEST_F(BlockCopyTest, ACopyIsMadeBeforeTheStepWritesItsSource) {
  const float first = After({}, 0);
  std::vector<RankBatch> batches = EmptyBatches(2, 1);
  batches[0].admitted = {GreedySlot(2), GreedySlot(3)};
  batches[0].block_copies = {{.from = 0, .to = 5}};
  batches[0].chunks = {SamplingChunk(3, 0, {90, 91, 92, 93}, {0}),
                       SamplingChunk(2, 4, {9}, {5, 15})};
  const auto results = RunStep(group_, std::move(batches));
  ASSERT_TRUE(results.ok()) << results.status();
  EXPECT_EQ(results->at(0).samples.at(1).logprob, first);
}

}  // namespace
}  // namespace moed
