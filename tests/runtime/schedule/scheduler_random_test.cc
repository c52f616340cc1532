// Thousands of seeded schedules of arrivals, cancels and deadlines; what must always hold is
// checked after every step. FakeRank checks slots, positions and blocks.
#include <algorithm>
#include <map>
#include <random>
#include <set>
#include <vector>

#include "gtest/gtest.h"
#include "tests/runtime/schedule/scheduler_harness.h"

namespace moed {
namespace {

class RandomSchedule {
 public:
  explicit RandomSchedule(uint64_t seed)
      : random_(seed), options_(RandomOptions()), harness_(options_) {}

  void Run() {
    const int num_requests = Between(1, 40);
    int num_submitted = 0;
    int num_steps_left = 5000;  // far above what any of these schedules needs
    while (num_submitted < num_requests || harness_.scheduler().HasWork()) {
      for (int i = Between(0, 3); i > 0 && num_submitted < num_requests; --i, ++num_submitted) {
        Submit();
      }
      if (Between(0, 3) == 0) EndAny();
      ++now_;
      harness_.Plan(now_);
      CheckPlan();
      if (Between(0, 7) == 0) EndAny();
      harness_.Finish(now_);
      if (::testing::Test::HasFailure()) return;
      ASSERT_GT(--num_steps_left, 0) << "a request starves";
    }
    CheckEnd();
  }

 private:
  int Between(int low, int high) { return std::uniform_int_distribution<int>(low, high)(random_); }

  SchedulerOptions RandomOptions() {
    SchedulerOptions options;
    options.num_ranks = Between(1, 4);
    options.max_sequences_per_rank = Between(1, 6);
    options.token_budget = Between(1, 12);
    options.block_size = Between(1, 5);
    options.num_blocks_per_rank = Between(4, 24);
    options.max_waiting = Between(1, 20);
    options.exchange.mode = static_cast<ExchangeMode>(Between(0, 2));
    options.exchange.max_gather_rows = options.token_budget;
    return options;
  }

  void Submit() {
    GenerationRequest request = MakeRequest(Between(1, 30), Between(1, 12), random_());
    request.stopping.min_tokens = Between(0, 3);
    if (Between(0, 2) == 0) {
      const int position = Between(0, 5);
      request.stopping.stop_token_ids = {FakeToken(
          request.sampling.seed, static_cast<int64_t>(request.prompt_token_ids.size()) + position,
          harness_.vocab())};
    }
    if (Between(0, 4) == 0) request.deadline = At(now_ + Between(0, 20));
    const bool fits = (MaxKvTokens(request) + options_.block_size - 1) / options_.block_size <=
                      options_.num_blocks_per_rank;
    const bool has_room = harness_.scheduler().num_waiting() < options_.max_waiting;
    const auto id = harness_.scheduler().Submit(request);
    EXPECT_EQ(id.ok(), fits && has_room) << id.status();
    if (id.ok()) requests_[*id] = request;
  }

  void EndAny() {
    if (requests_.empty()) return;
    auto any = requests_.begin();
    std::advance(any, Between(0, static_cast<int>(requests_.size()) - 1));
    harness_.scheduler().End(any->first, absl::CancelledError("gone"));
  }

  void CheckPlan() {
    const StepPlan& plan = harness_.plan();
    ASSERT_EQ(plan.batches.size(), static_cast<size_t>(options_.num_ranks));
    int32_t most_rows = 0;
    int64_t num_rows = 0;
    for (const RankBatch& batch : plan.batches) {
      EXPECT_LE(batch.num_rows(), options_.token_budget);
      most_rows = std::max(most_rows, batch.num_rows());
      num_rows += batch.num_rows();
    }
    EXPECT_EQ(num_rows, plan.num_rows);
    EXPECT_EQ(num_rows > 0, harness_.scheduler().HasWork()) << "work that does not get on";
    for (const RankBatch& batch : plan.batches) {
      if (num_rows == 0) break;
      EXPECT_EQ(batch.exchange, plan.batches[0].exchange);
      const bool gathers = batch.exchange == ExchangeStrategy::kGather;
      EXPECT_EQ(batch.padded_rows, gathers ? most_rows : 0);
    }
    int32_t num_slots = 0;
    for (int rank = 0; rank < options_.num_ranks; ++rank) {
      const BlockAllocator& blocks = harness_.scheduler().blocks(rank);
      EXPECT_GE(blocks.num_available(), 0);
      num_slots += std::min(options_.max_sequences_per_rank, options_.token_budget);
    }
    EXPECT_LE(harness_.scheduler().num_running(), num_slots);
    CheckFirstComeFirstServed();
  }

  // Seeds name requests: the ones admitted now come after all admitted before, and none of the
  // earlier ones waits.
  void CheckFirstComeFirstServed() {
    std::set<uint64_t> admitted;
    for (const RankBatch& batch : harness_.plan().batches) {
      for (const SlotInit& init : batch.admitted) admitted.insert(init.seed);
    }
    SequenceId last_admitted_now = 0;
    for (const auto& [id, request] : requests_) {
      if (admitted.count(request.sampling.seed) == 0) continue;
      EXPECT_GT(id, last_admitted_) << "admitted out of turn";
      last_admitted_now = id;
    }
    last_admitted_ = std::max(last_admitted_, last_admitted_now);
  }

  void CheckEnd() {
    std::map<SequenceId, int> num_ends;
    std::map<SequenceId, bool> by_token;
    for (const std::string& event : harness_.events) {
      const SequenceId id = std::stoull(event);
      ++num_ends[id];
      by_token[id] =
          event.find("stop") != std::string::npos || event.find("length") != std::string::npos;
    }
    EXPECT_EQ(num_ends.size(), requests_.size());
    for (const auto& [id, request] : requests_) {
      EXPECT_EQ(num_ends[id], 1) << "request " << id;
      const std::vector<int32_t> alone = FakeContinuation(request, harness_.vocab());
      const std::vector<int32_t>& got = harness_.tokens[id];
      if (by_token[id]) {
        EXPECT_EQ(got, alone) << "request " << id;
      } else {
        ASSERT_LE(got.size(), alone.size()) << "request " << id;
        EXPECT_TRUE(std::equal(got.begin(), got.end(), alone.begin())) << "request " << id;
      }
    }
    for (int rank = 0; rank < options_.num_ranks; ++rank) {
      const BlockAllocator& blocks = harness_.scheduler().blocks(rank);
      EXPECT_EQ(blocks.num_available(), options_.num_blocks_per_rank) << "leaked on rank " << rank;
      EXPECT_EQ(blocks.num_reserved(), 0) << "rank " << rank;
    }
  }

  std::mt19937_64 random_;
  const SchedulerOptions options_;
  SchedulerHarness harness_;
  std::map<SequenceId, GenerationRequest> requests_;
  SequenceId last_admitted_ = 0;
  int now_ = 0;
};

TEST(SchedulerRandomTest, InvariantsHoldInEverySchedule) {
  for (uint64_t seed = 1; seed <= 2000; ++seed) {
    RandomSchedule(seed).Run();
    ASSERT_FALSE(HasFailure()) << "seed " << seed;
  }
}

}  // namespace
}  // namespace moed
