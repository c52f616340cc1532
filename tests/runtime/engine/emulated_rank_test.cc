// One rank of a group that is not there: ThreadWorkerGroupOptions::emulated.
#include <cmath>
#include <cstdint>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "parallel/exchange_strategy.h"
#include "tests/runtime/engine/worker_group_fixture.h"

namespace moed {
namespace {

using ::testing::HasSubstr;

// Keeps the names of what is loaded. One thread loads: that of the rank.
class NamingSource : public WeightSource {
 public:
  absl::StatusOr<LoadedTensor> Load(absl::string_view name,
                                    const std::vector<int64_t>& shape) override {
    names.insert(std::string(name));
    return dummy_.Load(name, shape);
  }
  std::set<std::string> names;

 private:
  DummyWeightSource dummy_{3, DType::kFloat32};
};

ThreadWorkerGroupOptions EmulatedOptions(int rank, int num_ranks) {
  ThreadWorkerGroupOptions options = SmallGroupOptions(1);
  options.emulated = {.rank = rank, .num_ranks = num_ranks};
  return options;
}

TEST(EmulatedRankTest, TheEngineSeesOneRank) {
  ThreadWorkerGroup group(EmulatedOptions(1, 4));
  const auto info = group.Start(nullptr);
  ASSERT_TRUE(info.ok()) << info.status();
  EXPECT_EQ(info->num_ranks, 1);
  EXPECT_EQ(info->exchange_ranks, 4);
  EXPECT_EQ(info->num_experts, 4);
  EXPECT_EQ(info->num_kv_blocks_per_rank, 16);
}

TEST(EmulatedRankTest, LoadsItsOwnExpertsAndNoOthers) {
  const auto source = std::make_shared<NamingSource>();
  ThreadWorkerGroupOptions options = EmulatedOptions(1, 2);
  options.weights = source;
  ThreadWorkerGroup group(std::move(options));
  ASSERT_TRUE(group.Start(nullptr).ok());
  std::set<std::string> experts;
  for (const std::string& name : source->names) {
    for (const char* expert : {"0", "1", "2", "3"}) {
      if (absl::StrContains(name, absl::StrCat("experts.", expert, "."))) experts.insert(expert);
    }
  }
  EXPECT_EQ(experts, (std::set<std::string>{"1", "3"}));
}

TEST(EmulatedRankTest, TakesTheMemoryOfARankOfThatGroup) {
  ThreadWorkerGroup emulated(EmulatedOptions(0, 2));
  ASSERT_TRUE(emulated.Start(nullptr).ok());
  ThreadWorkerGroup real(SmallGroupOptions(2));
  ASSERT_TRUE(real.Start(nullptr).ok());
  for (const MemoryKind kind : {MemoryKind::kWeights, MemoryKind::kKvCache,
                                MemoryKind::kActivations, MemoryKind::kExchange}) {
    EXPECT_EQ(emulated.allocated_bytes(0, kind), real.allocated_bytes(0, kind))
        << static_cast<int>(kind);
  }
  EXPECT_EQ(2 * emulated.memory().expert_weight_bytes, real.memory().expert_weight_bytes);
  EXPECT_EQ(2 * emulated.memory().exchange_bytes, real.memory().exchange_bytes);
  EXPECT_EQ(emulated.memory().replicated_weight_bytes, real.memory().replicated_weight_bytes);
}

TEST(EmulatedRankTest, MemoryThatIsTooSmallForTheRankAloneIsRefused) {
  ThreadWorkerGroupOptions options = EmulatedOptions(0, 4);
  options.available_memory_bytes = 1000;
  const absl::Status status = ThreadWorkerGroup(std::move(options)).Start(nullptr).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted) << status;
}

class EmulatedStepTest : public testing::TestWithParam<ExchangeStrategy> {};

// 4 ranks with an expert each, among them those whose expert no row may have chosen.
TEST_P(EmulatedStepTest, StepsRunOnAnyRank) {
  for (int rank = 0; rank < 4; ++rank) {
    ThreadWorkerGroup group(EmulatedOptions(rank, 4));
    ASSERT_TRUE(group.Start(nullptr).ok());
    int32_t start = 0;
    for (uint64_t step = 0; step < 3; ++step) {
      std::vector<RankBatch> batches = EmptyBatches(step, 1);
      if (step == 0) batches[0].admitted.push_back(GreedySlot(0));
      std::vector<int32_t> tokens = {5};
      if (step == 0) tokens = {1, 17, 33, 49};
      const auto num_rows = static_cast<int32_t>(tokens.size());
      std::vector<int32_t> blocks;
      if (step == 0) blocks = {3, 4};
      batches[0].chunks.push_back(SamplingChunk(0, start, std::move(tokens), std::move(blocks)));
      batches[0].exchange = GetParam();
      batches[0].padded_rows = num_rows;
      start += num_rows;
      ASSERT_TRUE(group.Launch(std::move(batches)).ok());
      const auto results = group.Await();
      ASSERT_TRUE(results.ok()) << results.status();
      ASSERT_EQ(results->size(), 1U);
      ASSERT_EQ((*results)[0].samples.size(), 1U);
      EXPECT_GE((*results)[0].samples[0].token_id, 0);
      EXPECT_LT((*results)[0].samples[0].token_id, 96);
      EXPECT_TRUE(std::isfinite((*results)[0].samples[0].logprob)) << "rank " << rank;
      EXPECT_GT((*results)[0].exchange_bytes_sent, 0);
      EXPECT_EQ((*results)[0].collective_wait_seconds, 0);
    }
    EXPECT_TRUE(group.Stop());
  }
}

INSTANTIATE_TEST_SUITE_P(Strategies, EmulatedStepTest,
                         testing::Values(ExchangeStrategy::kExact, ExchangeStrategy::kGather),
                         [](const auto& test) {
                           return std::string(ExchangeStrategyName(test.param));
                         });

std::string Refusal(ThreadWorkerGroupOptions options) {
  const absl::Status status = ThreadWorkerGroup(std::move(options)).Start(nullptr).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
  return std::string(status.message());
}

TEST(EmulatedRankTest, ARankOutsideItsGroupIsRefused) {
  EXPECT_THAT(Refusal(EmulatedOptions(4, 4)), HasSubstr("emulated rank is 4, expected one of 4"));
  EXPECT_THAT(Refusal(EmulatedOptions(-1, 4)), HasSubstr("emulated rank is -1"));
  EXPECT_THAT(Refusal(EmulatedOptions(0, 0)), HasSubstr("emulated rank is 0, expected one of 0"));
}

TEST(EmulatedRankTest, SeveralRanksAreNotEmulatedTogether) {
  ThreadWorkerGroupOptions options = SmallGroupOptions(2);
  options.emulated = {.rank = 0, .num_ranks = 2};
  EXPECT_THAT(Refusal(std::move(options)), HasSubstr("num_ranks is 2, expected 1 to emulate"));
}

}  // namespace
}  // namespace moed
