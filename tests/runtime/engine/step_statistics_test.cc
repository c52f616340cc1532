#include "runtime/engine/step_statistics.h"

#include <numeric>
#include <vector>

#include "gtest/gtest.h"
#include "tests/runtime/engine/engine_fixture.h"

namespace moed {
namespace {

SequenceChunk Chunk(size_t num_tokens, bool sample) {
  SequenceChunk chunk;
  chunk.tokens.resize(num_tokens);
  chunk.sample = sample;
  return chunk;
}

TEST(StepStatistics, AStepIsCalledByWhatItsRanksComputeTogether) {
  std::vector<RankBatch> batches(3);
  EXPECT_EQ(PhaseOf(batches), StepPhase::kDecode);
  batches[2].chunks = {Chunk(1, true)};
  EXPECT_EQ(PhaseOf(batches), StepPhase::kDecode);
  batches[0].chunks = {Chunk(1, false)};
  EXPECT_EQ(PhaseOf(batches), StepPhase::kMixed);
  batches[2].chunks = {Chunk(7, true)};
  EXPECT_EQ(PhaseOf(batches), StepPhase::kPrefill);
}

TEST(StepStatistics, AValueOnABoundBelongsBelowItAndTheGreatestHaveABucketOfTheirOwn) {
  StepStatistics steps;
  steps.Add(StepPhase::kMixed, std::chrono::milliseconds(1), 8);
  steps.Add(StepPhase::kMixed, std::chrono::hours(1), 1 << 20);
  const HistogramCounts& durations = steps.duration_seconds[static_cast<size_t>(StepPhase::kMixed)];
  ASSERT_EQ(durations.buckets.size(), kStepDurationBounds.size() + 1);
  EXPECT_EQ(kStepDurationBounds[1], 0.001);
  EXPECT_EQ(durations.buckets[1], 1u);
  EXPECT_EQ(durations.buckets.back(), 1u);
  EXPECT_EQ(durations.count, 2u);
  EXPECT_DOUBLE_EQ(durations.sum, 3600.001);
  EXPECT_EQ(kStepTokensBounds[3], 8);
  EXPECT_EQ(steps.tokens.buckets[3], 1u);
  EXPECT_EQ(steps.tokens.buckets.back(), 1u);
}

class EngineStepsTest : public EngineFixture {};

TEST_F(EngineStepsTest, CountsEachStepFromItsLaunchToItsAnswer) {
  options_.prefix_cache = false;
  StartEngine();
  control_->Hold();
  const auto sink = Submit(Request("a", 5, 3));
  for (int step = 1; step <= 3; ++step) {
    control_->WaitForLaunch(step);
    AdvanceClock(step == 1 ? 300 : 4);
    control_->ReleaseStep();
    if (step < 3) sink->WaitForTokens(static_cast<size_t>(step));
  }
  control_->ReleaseAll();
  sink->Wait();
  RunAnother();  // the commits before it have been counted
  const StepStatistics steps = engine_->Stats().steps;
  const HistogramCounts& prefill = steps.duration_seconds[static_cast<size_t>(StepPhase::kPrefill)];
  const HistogramCounts& decode = steps.duration_seconds[static_cast<size_t>(StepPhase::kDecode)];
  EXPECT_EQ(prefill.count, 1u);
  EXPECT_DOUBLE_EQ(prefill.sum, 0.3);
  EXPECT_GE(decode.count, 2u);
  EXPECT_NEAR(decode.sum, 0.008, 1e-9);
  EXPECT_EQ(steps.tokens.buckets[3], 1u) << "the prompt's five rows, in (4, 8]";
}

TEST_F(EngineStepsTest, ATurnGrowsOldWhileAStepRunsAndIdlenessHasNoAge) {
  StartEngine();
  control_->Hold();
  const auto sink = Submit(Request("a", 1, 1));
  control_->WaitForLaunch(1);
  AdvanceClock(7000);
  EXPECT_GE(engine_->Stats().turn_age, std::chrono::milliseconds(7000));
  control_->ReleaseAll();
  sink->Wait();
  RunAnother();
  engine_->Shutdown(absl::UnavailableError("done"));  // the engine thread's last look at its lock
  EXPECT_EQ(engine_->Stats().turn_age.count(), 0);
}

TEST_F(EngineStepsTest, ACancelTellsWhetherItMetARequest) {
  StartEngine();
  control_->Hold();
  const auto sink = Submit(Request("a", 1, 100));
  EXPECT_TRUE(engine_->Cancel("a", absl::AbortedError("by hand")));
  EXPECT_FALSE(engine_->Cancel("b", absl::AbortedError("by hand")));
  control_->ReleaseAll();
  EXPECT_EQ(sink->Wait().status.code(), absl::StatusCode::kAborted);
  EXPECT_FALSE(engine_->Cancel("a", absl::AbortedError("by hand")));
}

}  // namespace
}  // namespace moed
