// The prefix cache against the repeats of a real trace.
#include "tests/runtime/schedule/trace_replay.h"

#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "tests/support/shared_data.h"

namespace moed {
namespace {

class TraceReplayTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const std::string file = "traces/mooncake_conversation_trace.jsonl";
    MOED_SKIP_WITHOUT_SHARED_DATA(file);
    auto trace = ReadBlockTrace(SharedDataPath(file));
    ASSERT_TRUE(trace.ok()) << trace.status();
    trace_ = *std::move(trace);
  }

  std::vector<TraceRequest> trace_;
};

TEST_F(TraceReplayTest, WithoutLimitEveryRepeatOfTheTraceIsFound) {
  ReplayOptions options;
  options.num_blocks_per_rank = 400'000;
  options.token_budget = 4096;
  const ReplayReport report = ReplayTrace(trace_, options);
  EXPECT_EQ(report.num_blocks, 288'500);
  EXPECT_EQ(report.num_cached, CountRepeats(trace_));  // 36.6 %
  EXPECT_EQ(report.num_preemptions, 0);
}

// Blocks of what runs, and of outputs, take room that a cache of prompts alone would have.
TEST_F(TraceReplayTest, WithALimitItFindsNearlyWhatForgettingTheLeastRecentlyUsedFinds) {
  for (const int64_t capacity : {4'000, 16'000}) {
    ReplayOptions options;
    options.num_blocks_per_rank = capacity;
    options.token_budget = 4096;
    const ReplayReport report = ReplayTrace(trace_, options);
    const auto bound = static_cast<double>(CountLruHits(trace_, capacity));
    EXPECT_LE(static_cast<double>(report.num_cached), 1.05 * bound) << capacity << " blocks";
    EXPECT_GE(static_cast<double>(report.num_cached), 0.80 * bound) << capacity << " blocks";
  }
}

}  // namespace
}  // namespace moed
