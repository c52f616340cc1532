// What a step gives back, and what of a batch it relies on.
#include <algorithm>
#include <cstdint>
#include <memory>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "runtime/engine/rank_slots.h"
#include "runtime/engine/thread_worker_group.h"
#include "tests/runtime/engine/worker_group_fixture.h"
#include "tests/support/forwarding_backend.h"

namespace moed {
namespace {

std::unique_ptr<ThreadWorkerGroup> StartedGroup(int num_ranks) {
  auto group = std::make_unique<ThreadWorkerGroup>(SmallGroupOptions(num_ranks));
  const auto info = group->Start(nullptr);
  EXPECT_TRUE(info.ok()) << info.status();
  return group;
}

int64_t Sum(const std::vector<int64_t>& counts) {
  return std::accumulate(counts.begin(), counts.end(), int64_t{0});
}

TEST(WorkerStepTest, CountsTheChoicesOfARanksOwnRowsInThisStep) {
  const auto group = StartedGroup(3);
  for (uint64_t step = 1; step <= 2; ++step) {
    std::vector<RankBatch> batches = OnePromptOnRankZero(step, 3);
    batches[2].admitted.push_back(GreedySlot(1));
    batches[2].chunks.push_back(SamplingChunk(1, 0, {9, 8, 7, 6, 5}, {0, 1}));
    const auto results = RunStep(*group, std::move(batches));
    ASSERT_TRUE(results.ok()) << results.status();
    // rows times 2 choices times 2 layers
    EXPECT_EQ(Sum(results->at(0).expert_counts), 3 * 2 * 2);
    EXPECT_EQ(Sum(results->at(1).expert_counts), 0);
    EXPECT_EQ(Sum(results->at(2).expert_counts), 5 * 2 * 2);
    EXPECT_TRUE(results->at(1).samples.empty());
    EXPECT_EQ(results->at(2).step, step);
  }
}

TEST(WorkerStepTest, AStepWithoutAnyRowRuns) {
  const auto group = StartedGroup(3);
  for (const ExchangeStrategy exchange : {ExchangeStrategy::kExact, ExchangeStrategy::kGather}) {
    std::vector<RankBatch> batches = EmptyBatches(1, 3);
    for (RankBatch& batch : batches) batch.exchange = exchange;
    const auto results = RunStep(*group, std::move(batches));
    ASSERT_TRUE(results.ok()) << results.status();
    for (const RankResult& result : *results) EXPECT_TRUE(result.samples.empty());
  }
}

TEST(WorkerStepTest, AccountsForTimeAndExchangedBytes) {
  const auto alone = StartedGroup(1);
  const auto single = RunStep(*alone, OnePromptOnRankZero(1, 1));
  ASSERT_TRUE(single.ok()) << single.status();
  EXPECT_EQ(single->at(0).exchange_bytes_sent, 0);
  EXPECT_GT(single->at(0).compute_seconds, 0);

  const auto group = StartedGroup(4);
  const auto results = RunStep(*group, OnePromptOnRankZero(1, 4));
  ASSERT_TRUE(results.ok()) << results.status();
  int64_t sent = 0;
  int64_t received = 0;
  for (const RankResult& result : *results) {
    sent += result.exchange_bytes_sent;
    received += result.exchange_bytes_received;
    EXPECT_GE(result.collective_wait_seconds, 0);
    EXPECT_GE(result.compute_seconds, 0);
  }
  EXPECT_GT(sent, 0);
  EXPECT_EQ(sent, received);
}

TEST(WorkerStepTest, GivesAsManyAlternativesAsTheSlotAskedFor) {
  const auto group = StartedGroup(2);
  std::vector<RankBatch> batches = EmptyBatches(1, 2);
  for (const int32_t num_logprobs : {-1, 0, 3}) {
    SlotInit init = GreedySlot(static_cast<int32_t>(batches[1].chunks.size()));
    init.num_logprobs = num_logprobs;
    batches[1].admitted.push_back(init);
    batches[1].chunks.push_back(SamplingChunk(init.slot, 0, {11, 12}, {init.slot}));
  }
  const auto results = RunStep(*group, std::move(batches));
  ASSERT_TRUE(results.ok()) << results.status();
  const std::vector<SampledToken>& samples = results->at(1).samples;
  ASSERT_EQ(samples.size(), 3U);
  EXPECT_TRUE(samples[0].top_logprobs.empty());
  EXPECT_TRUE(samples[1].top_logprobs.empty());
  ASSERT_EQ(samples[2].top_logprobs.size(), 3U);
  EXPECT_EQ(samples[2].slot, 2);
  // Greedy: the token is the first alternative.
  EXPECT_EQ(samples[2].top_logprobs[0].first, samples[2].token_id);
  EXPECT_EQ(samples[2].top_logprobs[0].second, samples[2].logprob);
  EXPECT_LT(samples[2].logprob, 0);
}

TEST(WorkerStepTest, SuppressesTokensOnlyWhereTheChunkSaysSo) {
  const auto group = StartedGroup(1);
  const auto draw = [&group](uint64_t step, std::vector<int32_t> suppressed, bool suppress) {
    std::vector<RankBatch> batches = OnePromptOnRankZero(step, 1);
    batches[0].admitted[0].suppressed_token_ids = std::move(suppressed);
    batches[0].chunks[0].suppress = suppress;
    const auto results = RunStep(*group, std::move(batches));
    EXPECT_TRUE(results.ok()) << results.status();
    return results.ok() ? results->at(0).samples.at(0).token_id : -1;
  };
  const int32_t best = draw(1, {}, false);
  EXPECT_NE(draw(2, {best}, true), best);
  EXPECT_EQ(draw(3, {best}, false), best);
}

TEST(WorkerStepTest, TheLastSampledTokenIsTheOneThatWasDrawnInTheSlot) {
  const auto group = StartedGroup(2);
  // Two sequences, so that another slot's token would show.
  const auto prompts = [](uint64_t step) {
    std::vector<RankBatch> batches = EmptyBatches(step, 2);
    batches[0].admitted = {GreedySlot(0), GreedySlot(2)};
    batches[0].chunks = {SamplingChunk(0, 0, {5, 6, 7}, {2}), SamplingChunk(2, 0, {8, 9}, {3})};
    return batches;
  };
  const auto first = RunStep(*group, prompts(1));
  ASSERT_TRUE(first.ok()) << first.status();
  const int32_t drawn = first->at(0).samples.at(1).token_id;
  ASSERT_NE(drawn, first->at(0).samples.at(0).token_id);

  std::vector<SampledToken> by_kind;
  for (const int32_t token : {kLastSampledToken, drawn}) {
    ASSERT_TRUE(RunStep(*group, prompts(2)).ok());
    std::vector<RankBatch> batches = EmptyBatches(3, 2);
    batches[0].chunks.push_back(SamplingChunk(2, 2, {token}, {}));
    const auto results = RunStep(*group, std::move(batches));
    ASSERT_TRUE(results.ok()) << results.status();
    by_kind.push_back(results->at(0).samples.at(0));
  }
  EXPECT_EQ(by_kind[0].token_id, by_kind[1].token_id);
  EXPECT_EQ(by_kind[0].logprob, by_kind[1].logprob);
}

// Keeps what Sample was asked for.
class SampleRecorder : public ForwardingBackend {
 public:
  SampleRecorder(std::unique_ptr<Backend> backend, std::vector<SamplingRow>& rows)
      : ForwardingBackend(std::move(backend)), rows_(rows) {}
  void Sample(Stream& stream, const SampleArgs& args) override {
    rows_.assign(args.rows.begin(), args.rows.end());
    ForwardingBackend::Sample(stream, args);
  }

 private:
  std::vector<SamplingRow>& rows_;
};

TEST(WorkerStepTest, DrawsWithTheSlotsParametersAtThePositionOfTheNewToken) {
  std::vector<SamplingRow> rows;
  ThreadWorkerGroupOptions options = SmallGroupOptions(1);
  options.make_backend = [&rows](int) -> absl::StatusOr<std::unique_ptr<Backend>> {
    return std::make_unique<SampleRecorder>(*MakeSmallBackend(), rows);
  };
  ThreadWorkerGroup group(std::move(options));
  ASSERT_TRUE(group.Start(nullptr).ok());

  std::vector<RankBatch> batches = EmptyBatches(1, 1);
  SlotInit init;
  init.slot = 3;
  init.sampling.temperature = 0.7F;
  init.sampling.top_k = 11;
  init.sampling.top_p = 0.8F;
  init.sampling.min_p = 0.05F;
  init.sampling.seed = 99;
  batches[0].admitted = {GreedySlot(1), init};
  batches[0].chunks = {SamplingChunk(1, 0, {4, 4}, {0}), SamplingChunk(3, 0, {1, 2, 3}, {1})};
  batches[0].chunks[0].sample = false;
  ASSERT_TRUE(RunStep(group, std::move(batches)).ok());
  ASSERT_EQ(rows.size(), 1U);
  EXPECT_EQ(rows[0].slot, 3);
  EXPECT_EQ(rows[0].temperature, 0.7F);
  EXPECT_EQ(rows[0].top_k, 11);
  EXPECT_EQ(rows[0].top_p, 0.8F);
  EXPECT_EQ(rows[0].min_p, 0.05F);
  EXPECT_EQ(rows[0].seed, 99U);
  EXPECT_EQ(rows[0].choice_index, 0U);
  EXPECT_EQ(rows[0].position, 3);  // the prompt has positions 0, 1, 2
}

RankSlots SmallSlots() {
  return RankSlots({.num_slots = 2,
                    .num_kv_blocks = 8,
                    .block_size = 4,
                    .max_positions = 20,
                    .vocab = 10,
                    .experts_per_token = 2,
                    .max_experts_per_token = 4});
}

TEST(RankSlotsTest, PlacesTokensInTheBlocksOfTheirSlot) {
  RankSlots slots = SmallSlots();
  EXPECT_EQ(slots.max_blocks_per_slot(), 5);
  slots.Admit(GreedySlot(1));
  slots.Extend(1, SamplingChunk(1, 0, {1, 2, 3, 4, 5}, {6, 2}));
  EXPECT_EQ(slots.CacheSlot(1, 3), 6 * 4 + 3);
  EXPECT_EQ(slots.CacheSlot(1, 4), 2 * 4);
  // Admitted again the slot is empty.
  slots.Admit(GreedySlot(1));
  slots.Extend(2, SamplingChunk(1, 0, {1}, {3}));
  EXPECT_EQ(slots.blocks(1).size(), 1U);
  EXPECT_EQ(slots.CacheSlot(1, 0), 3 * 4);
}

TEST(RankSlotsTest, AFreshSlotMayStartAfterBlocksThatAreFilled) {
  RankSlots slots = SmallSlots();
  slots.Admit(GreedySlot(0));
  slots.Extend(1, SamplingChunk(0, 4, {1}, {7, 5}));
  EXPECT_EQ(slots.CacheSlot(0, 4), 5 * 4);
}

using RankSlotsDeathTest = testing::Test;

TEST(RankSlotsDeathTest, APlannersBugEndsTheProcess) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  RankSlots slots = SmallSlots();
  EXPECT_DEATH(slots.Admit(GreedySlot(2)), "a slot outside the table");
  EXPECT_DEATH(slots.Extend(1, SamplingChunk(0, 0, {1}, {0})), "nothing was admitted");
  slots.Admit(GreedySlot(0));
  EXPECT_DEATH(slots.Extend(1, SamplingChunk(0, 0, {}, {0})), "without tokens");
  EXPECT_DEATH(slots.Extend(1, SamplingChunk(0, 0, {1}, {8})), "outside the KV cache");
  EXPECT_DEATH(slots.Extend(1, SamplingChunk(0, 0, {1}, {})), "past the slot's blocks");
  EXPECT_DEATH(slots.Extend(1, SamplingChunk(0, 0, {10}, {0})), "outside the vocabulary");
  EXPECT_DEATH(slots.Extend(1, SamplingChunk(0, 0, {kLastSampledToken}, {0})), "sampled none");
  slots.Extend(1, SamplingChunk(0, 0, {1, 2}, {0}));
  EXPECT_DEATH(slots.Extend(1, SamplingChunk(0, 2, {1}, {})), "two chunks in one step");
  EXPECT_DEATH(slots.Extend(2, SamplingChunk(0, 3, {1}, {})), "does not follow");
}

TEST(RankSlotsDeathTest, AnAdmissionThatTheFrontEndHadToRefuseEndsTheProcess) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  RankSlots slots = SmallSlots();
  const auto admit = [&slots](void (*change)(SlotInit&)) {
    SlotInit init = GreedySlot(0);
    change(init);
    slots.Admit(init);
  };
  constexpr const char* kOutside = "a token of an admission outside the vocabulary";
  EXPECT_DEATH(admit([](SlotInit& i) { i.suppressed_token_ids = {10}; }), kOutside);
  EXPECT_DEATH(admit([](SlotInit& i) { i.sampling.allowed_token_ids = {-1}; }), kOutside);
  EXPECT_DEATH(admit([](SlotInit& i) { i.sampling.logit_bias = {{10, 1.0F}}; }), kOutside);
  EXPECT_DEATH(admit([](SlotInit& i) { i.sampling.bad_words = {{1}, {2, 10}}; }), kOutside);
  EXPECT_DEATH(admit([](SlotInit& i) { i.prompt_token_ids = {10}; }), kOutside);
  EXPECT_DEATH(admit([](SlotInit& i) { i.sampling.bad_words = {{}}; }), "without tokens");
  EXPECT_DEATH(admit([](SlotInit& i) { i.experts_per_token = 5; }), "more experts a token");
}

TEST(RankSlotsDeathTest, OnlyASlotThatIsJustAdmittedForks) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  RankSlots slots = SmallSlots();
  EXPECT_DEATH(slots.Fork(1), "not just admitted");
  slots.Admit(GreedySlot(1));
  slots.Fork(1);
  EXPECT_DEATH(slots.Fork(1), "not just admitted");
  slots.Admit(GreedySlot(1));
  slots.Extend(1, SamplingChunk(1, 0, {1}, {0}));
  EXPECT_DEATH(slots.Fork(1), "not just admitted");
}

}  // namespace
}  // namespace moed
