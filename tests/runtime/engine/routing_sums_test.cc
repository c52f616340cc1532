// The sum over the experts of a layer is the sum over the computed rows of the k they used: through
// preemption, the prefix cache, n, planning ahead and dropped pairs; with ranks that compute
// nothing and with the demonstration model.
#include <memory>
#include <numeric>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "runtime/engine/engine_impl.h"
#include "tests/runtime/engine/counting_group.h"
#include "tests/runtime/engine/demo_group.h"
#include "tests/runtime/engine/recording_sink.h"
#include "tests/runtime/engine/worker_group_fixture.h"
#include "tests/support/fake_worker_group.h"

namespace moed {
namespace {

constexpr int32_t kBlockSize = 4;
constexpr int32_t kMaxExpertsPerToken = 4;

enum class Ranks {
  kFake,
  kSmall,  // threads with a small random model
  kDemo,   // threads with the demonstration model
};

struct Case {
  std::string name;
  Ranks ranks = Ranks::kFake;
  int num_ranks = 1;
  int num_requests = 60;
  int64_t num_blocks = 24;     // of a rank
  double capacity_factor = 0;  // fake ranks: 0 or not
  bool mixes_k = false;
  bool stops = false;  // by a stop token, with the next step already planned
};

std::ostream& operator<<(std::ostream& out, const Case& c) { return out << c.name; }

class RoutingSumsTest : public ::testing::TestWithParam<Case> {
 protected:
  void StartEngine() {
    WorkerGroupInfo info;
    std::unique_ptr<WorkerGroup> group =
        GetParam().ranks != Ranks::kFake ? MakeRealGroup(&info) : MakeFakeGroup(&info);
    ASSERT_NE(group, nullptr);
    vocab_ = info.vocab;
    group = std::make_unique<CountingGroup>(std::move(group), info, work_);
    auto engine = MakeEngine({}, std::move(group), info, nullptr);
    ASSERT_TRUE(engine.ok()) << engine.status();
    engine_ = std::move(*engine);
  }

  std::unique_ptr<WorkerGroup> MakeFakeGroup(WorkerGroupInfo* info) {
    FakeRankOptions options;
    options.num_experts = 8;
    options.experts_per_token = 2;
    options.block_size = kBlockSize;
    options.num_blocks = GetParam().num_blocks;
    options.drops_pairs = GetParam().capacity_factor > 0;
    *info = FakeWorkerGroup::Info(GetParam().num_ranks, options);
    return std::make_unique<FakeWorkerGroup>(GetParam().num_ranks, options,
                                             std::make_shared<FakeWorkerControl>());
  }

  static std::unique_ptr<WorkerGroup> MakeRealGroup(WorkerGroupInfo* info) {
    return StartDemoGroup(
        [](ThreadWorkerGroupOptions* options) {
          if (GetParam().ranks == Ranks::kSmall) {
            const ThreadWorkerGroupOptions small = SmallGroupOptions(1);
            options->config = small.config;
            options->weights = small.weights;
            options->make_backend = small.make_backend;
          }
          options->num_ranks = GetParam().num_ranks;
          options->block_size = kBlockSize;
          options->num_kv_blocks = GetParam().num_blocks;
          options->max_experts_per_token = kMaxExpertsPerToken;
          options->capacity_factor = GetParam().capacity_factor;
        },
        info);
  }

  // Prompts that begin with one of three beginnings, so that cached blocks are found.
  GenerationRequest DrawRequest(int index, std::mt19937_64& random) const {
    const auto between = [&](int low, int high) {
      return std::uniform_int_distribution<int>(low, high)(random);
    };
    GenerationRequest request;
    request.request_id = absl::StrCat(index);
    const int beginning = between(0, 2);
    for (int i = 0; i < 16; ++i) request.prompt_token_ids.push_back(10 + 25 * beginning + i);
    for (int i = between(1, 10); i > 0; --i) {
      request.prompt_token_ids.push_back(between(3, vocab_ - 1));
    }
    request.sampling.seed = static_cast<uint64_t>(index);
    request.sampling.n = between(1, 4) == 1 ? between(2, 3) : 1;
    request.stopping.max_tokens = between(1, 32);
    if (GetParam().stops) {
      for (int32_t token = 3; token < vocab_; token += 40) {
        request.stopping.stop_token_ids.push_back(token);
      }
    }
    if (GetParam().mixes_k && between(0, 1) == 1) {
      request.experts_per_token = between(1, kMaxExpertsPerToken);
    }
    request.response.text = false;
    request.response.routed_experts = between(1, 5) == 1;
    return request;
  }

  std::shared_ptr<RecordingSink> Submit(GenerationRequest request) {
    auto sink = std::make_shared<RecordingSink>();
    const absl::Status status = engine_->Submit(std::move(request), sink);
    EXPECT_TRUE(status.ok()) << status;
    return sink;
  }

  // Runs requests to their ends, and shuts the engine down.
  void RunAll(uint64_t seed) {
    std::mt19937_64 random(seed);
    std::vector<std::shared_ptr<RecordingSink>> sinks;
    for (int i = 0; i < GetParam().num_requests; ++i) {
      const GenerationRequest request = DrawRequest(i, random);
      num_choices_ += request.sampling.n;
      sinks.push_back(Submit(request));
      // Those that come later find what the first ones leave in the cache.
      if (i == 5) sinks[0]->Wait();
    }
    for (const auto& sink : sinks) {
      EXPECT_TRUE(sink->Wait().status.ok());
      num_tokens_ += static_cast<int64_t>(sink->tokens().size());
    }
    // A row too many of one that stopped may still be computed: after this one nothing is.
    GenerationRequest last = DrawRequest(1000, random);
    last.sampling.n = 1;
    last.stopping.max_tokens = 1;
    EXPECT_TRUE(Submit(last)->Wait().status.ok());
    num_choices_ += 1;
    num_tokens_ += 1;
    counters_ = engine_->Stats().counters;
    engine_->Shutdown(absl::UnavailableError("the test is over"));
  }

  const std::shared_ptr<PlannedWork> work_ = std::make_shared<PlannedWork>();
  std::unique_ptr<Engine> engine_;
  int32_t vocab_ = 0;
  SchedulerCounters counters_;
  int64_t num_choices_ = 0;
  int64_t num_tokens_ = 0;  // generated
};

TEST_P(RoutingSumsTest, ExpertsOfALayerSumUpToTheRowsTimesTheirK) {
  StartEngine();
  if (HasFatalFailure()) return;
  RunAll(/*seed=*/11);

  // What the run is for has happened.
  EXPECT_GT(counters_.preemptions, 0);
  EXPECT_GT(counters_.cached_tokens, 0);
  EXPECT_GT(counters_.recomputed_tokens, 0);
  EXPECT_GT(work_->num_forks, 0);
  EXPECT_EQ(work_->rows_of_other_k > 0, GetParam().mixes_k);
  EXPECT_EQ(work_->dropped_pairs > 0, GetParam().capacity_factor > 0);

  const ExpertLoad load = engine_->routing().Load(std::nullopt, TimePoint::max());
  const std::vector<int64_t>& by_rank = work_->pairs_by_rank;
  const int64_t pairs = std::accumulate(by_rank.begin(), by_rank.end(), int64_t{0});
  ASSERT_EQ(load.expert_tokens.size(), static_cast<size_t>(load.num_layers) * load.num_experts);
  for (int layer = 0; layer < load.num_layers; ++layer) {
    const auto begin = load.expert_tokens.begin() + layer * load.num_experts;
    EXPECT_EQ(std::accumulate(begin, begin + load.num_experts, int64_t{0}), pairs)
        << "layer " << layer << "; dropped pairs count among the choices";
    EXPECT_EQ(load.routing[layer].total, pairs) << "layer " << layer;
  }
  EXPECT_EQ(load.dropped_pairs, work_->dropped_pairs);
  EXPECT_EQ(counters_.dropped_pairs, work_->dropped_pairs);
  EXPECT_LT(work_->dropped_pairs, pairs * load.num_layers);
  const std::vector<RankTotals> ranks = engine_->routing().Ranks();
  ASSERT_EQ(ranks.size(), by_rank.size());
  for (size_t rank = 0; rank < ranks.size(); ++rank) {
    EXPECT_EQ(ranks[rank].routed_pairs, by_rank[rank] * load.num_layers) << "rank " << rank;
  }

  // The rows themselves: every prompt once, less what was cached, and a row for every token but the
  // last; what was computed again, and with stops the rows that came too late, besides.
  const int64_t rows =
      counters_.prompt_tokens - counters_.cached_tokens + num_tokens_ - num_choices_;
  EXPECT_GT(work_->num_rows, rows);
  EXPECT_LE(work_->num_rows,
            rows + counters_.recomputed_tokens + (GetParam().stops ? num_choices_ : 0));

  // Repetition has a row for each that follows another one in its slot.
  if (GetParam().ranks == Ranks::kFake) return;
  for (const RepetitionSummary& repetition : load.repetition) {
    EXPECT_EQ(repetition.num_rows, work_->num_rows - work_->first_rows);
  }
}

INSTANTIATE_TEST_SUITE_P(
    Groups, RoutingSumsTest,
    ::testing::Values(
        Case{.name = "Fake1"}, Case{.name = "Fake3MixedK", .num_ranks = 3, .mixes_k = true},
        Case{.name = "Fake2Drops", .num_ranks = 2, .capacity_factor = 1, .mixes_k = true},
        Case{.name = "Fake1Stops", .num_blocks = 20, .mixes_k = true, .stops = true},
        Case{.name = "Small1", .ranks = Ranks::kSmall},
        Case{.name = "Small3MixedK", .ranks = Ranks::kSmall, .num_ranks = 3, .mixes_k = true},
        Case{.name = "Small2Drops",
             .ranks = Ranks::kSmall,
             .num_ranks = 2,
             .capacity_factor = 1,
             .mixes_k = true},
        Case{.name = "Small1Stops",
             .ranks = Ranks::kSmall,
             .num_blocks = 20,
             .mixes_k = true,
             .stops = true},
        Case{.name = "Demo2Drops",
             .ranks = Ranks::kDemo,
             .num_ranks = 2,
             .num_requests = 24,
             .num_blocks = 20,
             .capacity_factor = 1,
             .mixes_k = true}),
    [](const auto& instance) { return instance.param.name; });

}  // namespace
}  // namespace moed
