// What ranks tell of their router's choices, against counting them one by one.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "tests/runtime/engine/worker_harness.h"

namespace moed {
namespace {

constexpr int kNumLayers = 2;
constexpr int kNumExperts = 4;
constexpr int kWidth = 4;

// Prompts of several chunks with 0 (the model's), 1, 3 and 4 experts per token, one of them with
// forks, some preempted.
std::vector<HarnessRequest> MixedRequests() {
  std::vector<HarnessRequest> requests;
  for (const int32_t k : {0, 1, 3, 4}) {
    HarnessRequest& request =
        requests.emplace_back(SmallRequest(7 + 2 * k, 6, static_cast<uint64_t>(20 + k)));
    request.init.experts_per_token = k;
    request.init.routed_experts = k != 3;
    request.init.sampling.n = k == 1 ? 2 : 1;
    request.home_rank = k;
    request.first_step = k;
    request.chunk_tokens = 5 - k;
    if (k >= 3) request.preempted_after = {2};
  }
  return requests;
}

int32_t ChosenK(const HarnessRequest& request) {
  return request.init.experts_per_token > 0 ? request.init.experts_per_token : 2;
}

TEST(WorkerRoutingTest, ARequestWithItsOwnKGetsInAMixedBatchWhatItGetsAlone) {
  const std::vector<HarnessRequest> requests = MixedRequests();
  for (const int num_ranks : {1, 3}) {
    const auto run = RunRequests(SmallHarnessOptions(num_ranks), requests);
    for (size_t i = 0; i < requests.size(); ++i) {
      HarnessRequest alone = requests[i];
      alone.chunk_tokens = 0;
      alone.preempted_after.clear();
      HarnessOptions options = SmallHarnessOptions(1);
      // No wider than it needs.
      options.max_experts_per_token = std::max(ChosenK(alone), 2);
      ExpectSame(run.outputs.at(i), RunRequests(options, {alone}).outputs.at(0),
                 absl::StrCat(num_ranks, " ranks, k ", ChosenK(alone)));
    }
  }
}

TEST(WorkerRoutingTest, OtherNumbersOfExpertsGiveOtherResults) {
  HarnessRequest request = SmallRequest(8, 1, 4);
  std::vector<float> logprobs;
  for (const int32_t k : {1, 2, 3, 4}) {
    request.init.experts_per_token = k;
    request.init.sampling.allowed_token_ids = {5};
    logprobs.push_back(
        RunRequests(SmallHarnessOptions(1), {request}).outputs.at(0).tokens.at(0).logprob);
  }
  std::sort(logprobs.begin(), logprobs.end());
  EXPECT_EQ(std::unique(logprobs.begin(), logprobs.end()), logprobs.end());
}

// Walks through a recorded step, row by row.
class TracedRank {
 public:
  TracedRank(const RankBatch& batch, const RankResult& result) : batch_(batch), result_(result) {}

  int32_t expert(int layer, int64_t row, int choice) const {
    const auto place = static_cast<size_t>((layer * batch_.num_rows() + row) * kWidth + choice);
    return result_.routing.expert_ids.at(place);
  }
  // visit(chunk, row of the step, row of the chunk)
  template <typename Visit>
  void ForEachRow(const Visit& visit) const {
    int64_t row = 0;
    for (const SequenceChunk& chunk : batch_.chunks) {
      for (size_t i = 0; i < chunk.tokens.size(); ++i) visit(chunk, row++, i);
    }
  }

 private:
  const RankBatch& batch_;
  const RankResult& result_;
};

TEST(WorkerRoutingTest, CountsAndRepetitionAreThoseOfTheTracedChoices) {
  for (const int num_ranks : {1, 2}) {
    HarnessOptions options = SmallHarnessOptions(num_ranks);
    options.trace_routing = true;
    const HarnessRun run = RunRequests(options, MixedRequests());
    std::vector<int64_t> counts(kNumLayers * kNumExperts, 0);
    RepetitionCounts repetition;
    repetition.same_first.assign(kNumLayers, 0);
    repetition.any_shared.assign(kNumLayers, 0);
    // By rank and slot: first and second choice of its last row in each layer.
    std::map<std::pair<size_t, int32_t>, std::vector<std::pair<int32_t, int32_t>>> last;
    for (const HarnessRun::Step& step : run.steps) {
      for (size_t rank = 0; rank < step.batches.size(); ++rank) {
        const RankBatch& batch = step.batches[rank];
        for (const SlotInit& init : batch.admitted) last.erase({rank, init.slot});
        const TracedRank traced(batch, step.results[rank]);
        traced.ForEachRow([&](const SequenceChunk& chunk, int64_t row, size_t) {
          std::vector<std::pair<int32_t, int32_t>> choices;
          for (int layer = 0; layer < kNumLayers; ++layer) {
            choices.emplace_back(traced.expert(layer, row, 0), traced.expert(layer, row, 1));
            for (int c = 0; c < kWidth; ++c) {
              const int32_t expert = traced.expert(layer, row, c);
              if (expert >= 0) ++counts[static_cast<size_t>(layer * kNumExperts + expert)];
            }
          }
          const auto before = last.find({rank, chunk.slot});
          if (before != last.end()) {
            ++repetition.num_rows;
            for (size_t layer = 0; layer < kNumLayers; ++layer) {
              const auto [first, second] = before->second[layer];
              const auto [next, other] = choices[layer];
              repetition.same_first[layer] += next == first;
              const bool shares = next == first || next == second ||
                                  (other >= 0 && (other == first || other == second));
              repetition.any_shared[layer] += shares;
            }
          }
          last[{rank, chunk.slot}] = choices;
        });
      }
    }
    EXPECT_EQ(run.expert_counts, counts);
    EXPECT_GT(repetition.num_rows, 0);
    EXPECT_EQ(run.repetition.num_rows, repetition.num_rows);
    EXPECT_EQ(run.repetition.same_first, repetition.same_first);
    EXPECT_EQ(run.repetition.any_shared, repetition.any_shared);
    int64_t pairs = 0;
    for (int e = 0; e < kNumExperts; ++e) pairs += run.expert_counts[static_cast<size_t>(e)];
    EXPECT_EQ(pairs, run.num_pairs);
  }
}

TEST(WorkerRoutingTest, ReportsGiveTheChoicesOfEveryComputedRowInOrder) {
  HarnessOptions options = SmallHarnessOptions(2);
  options.trace_routing = true;
  const std::vector<HarnessRequest> requests = MixedRequests();
  const HarnessRun run = RunRequests(options, requests);
  std::map<std::pair<size_t, int32_t>, std::vector<int16_t>> expected;  // by rank and slot
  std::map<std::pair<size_t, int32_t>, int32_t> k_of;
  for (const HarnessRun::Step& step : run.steps) {
    for (size_t rank = 0; rank < step.batches.size(); ++rank) {
      const RankBatch& batch = step.batches[rank];
      for (const SlotInit& init : batch.admitted) {
        k_of[{rank, init.slot}] = !init.routed_experts         ? 0
                                  : init.experts_per_token > 0 ? init.experts_per_token
                                                               : 2;
      }
      const TracedRank traced(batch, step.results[rank]);
      traced.ForEachRow([&](const SequenceChunk& chunk, int64_t row, size_t) {
        for (int layer = 0; layer < kNumLayers; ++layer) {
          for (int c = 0; c < k_of[{rank, chunk.slot}]; ++c) {
            expected[{rank, chunk.slot}].push_back(
                static_cast<int16_t>(traced.expert(layer, row, c)));
          }
        }
      });
    }
  }
  // Slots are given out in the order of the requests, forks after their first.
  EXPECT_EQ(run.outputs[0].routed_experts, (expected[{0, 0}]));
  EXPECT_EQ(run.outputs[1].routed_experts, (expected[{1, 0}]));
  EXPECT_EQ(run.outputs[1].forks.at(0).routed_experts, (expected[{1, 1}]));
  EXPECT_TRUE(run.outputs[2].routed_experts.empty());
  EXPECT_EQ(run.outputs[3].routed_experts, (expected[{0, 1}]));
  EXPECT_EQ(run.outputs[0].routed_experts.size(), (7U + 5) * kNumLayers * 2);
}

TEST(WorkerRoutingTest, TheTraceNamesTheInputTokens) {
  HarnessOptions options = SmallHarnessOptions(1);
  options.trace_routing = true;
  const HarnessRequest request = SmallRequest(5, 4, 8);
  const HarnessRun run = RunRequests(options, {request});
  std::vector<int32_t> traced;
  for (const HarnessRun::Step& step : run.steps) {
    const std::vector<int32_t>& ids = step.results.at(0).routing.token_ids;
    traced.insert(traced.end(), ids.begin(), ids.end());
  }
  std::vector<int32_t> expected = request.prompt;
  for (const int32_t id : TokenIds(run.outputs.at(0))) expected.push_back(id);
  expected.pop_back();  // the last one is not fed back
  EXPECT_EQ(traced, expected);
}

// GShard's algorithm 1 over the traced choices of each rank's step.
TEST(WorkerRoutingTest, DroppedPairsAreThoseBeyondTheCapacity) {
  HarnessOptions options = SmallHarnessOptions(2);
  options.trace_routing = true;
  options.capacity_factor = 0.8;
  const HarnessRun run = RunRequests(options, MixedRequests());
  int64_t total = 0;
  for (size_t s = 0; s < run.steps.size(); ++s) {
    for (size_t rank = 0; rank < run.steps[s].batches.size(); ++rank) {
      const RankBatch& batch = run.steps[s].batches[rank];
      const RankResult& result = run.steps[s].results[rank];
      const TracedRank traced(batch, result);
      int64_t num_pairs = 0;
      std::map<int32_t, int64_t> by_slot;
      traced.ForEachRow([&](const SequenceChunk&, int64_t row, size_t) {
        for (int c = 0; c < kWidth; ++c) num_pairs += traced.expert(0, row, c) >= 0;
      });
      const double even_share = static_cast<double>(num_pairs) / kNumExperts;
      const auto capacity = static_cast<int64_t>(std::ceil(0.8 * even_share));
      for (int layer = 0; layer < kNumLayers; ++layer) {
        std::vector<int64_t> served(kNumExperts, 0);
        for (int c = 0; c < kWidth; ++c) {
          traced.ForEachRow([&](const SequenceChunk& chunk, int64_t row, size_t) {
            const int32_t expert = traced.expert(layer, row, c);
            if (expert >= 0 && ++served[static_cast<size_t>(expert)] > capacity) {
              ++by_slot[chunk.slot];
            }
          });
        }
      }
      int64_t expected = 0;
      for (const auto& [slot, dropped] : by_slot) expected += dropped;
      EXPECT_EQ(result.dropped_pairs, expected) << "step " << s << ", rank " << rank;
      std::map<int32_t, int64_t> reported;
      for (const ChunkReport& report : result.reports) {
        if (report.dropped_pairs > 0) reported[report.slot] = report.dropped_pairs;
      }
      EXPECT_EQ(reported, by_slot) << "step " << s << ", rank " << rank;
      total += expected;
    }
  }
  EXPECT_GT(total, 0);
  EXPECT_EQ(run.dropped_pairs, total);
}

TEST(WorkerRoutingTest, AFactorThatNothingExceedsChangesNothing) {
  HarnessOptions options = SmallHarnessOptions(2);
  const auto free = RunRequests(options, MixedRequests());
  options.capacity_factor = kNumExperts;
  const auto limited = RunRequests(options, MixedRequests());
  EXPECT_EQ(limited.dropped_pairs, 0);
  for (size_t i = 0; i < free.outputs.size(); ++i) {
    ExpectSame(limited.outputs[i], free.outputs[i], absl::StrCat("request ", i));
  }
}

}  // namespace
}  // namespace moed
