// How long steps take and how many rows they have, as histograms.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "runtime/schedule/batch_plan.h"

namespace moed {

// What a step computed, over all ranks.
enum class StepPhase : uint8_t {
  kDecode,   // continuations only: a row each
  kPrefill,  // pieces of prompts only
  kMixed,
};
inline constexpr int kNumStepPhases = 3;
const char* StepPhaseName(StepPhase phase);  // "decode", "prefill", "mixed"

// A chunk that draws after its only row counts as decode, any other as prefill: the last token of a
// prompt, alone in a chunk, cannot be told from a decode and costs the same.
StepPhase PhaseOf(absl::Span<const RankBatch> batches);

// Upper bounds, ascending; what is over the last falls into one more bucket. Seconds, rows.
inline constexpr std::array<double, 15> kStepDurationBounds = {
    0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30};
inline constexpr std::array<double, 14> kStepTokensBounds = {1,   2,   4,   8,    16,   32,   64,
                                                             128, 256, 512, 1024, 2048, 4096, 8192};

struct HistogramCounts {
  std::vector<uint64_t> buckets;  // [bounds + 1], not cumulative
  double sum = 0;
  uint64_t count = 0;

  void Add(absl::Span<const double> bounds, double value);
};

// A value; whoever shares it locks.
struct StepStatistics {
  std::array<HistogramCounts, kNumStepPhases> duration_seconds;  // kStepDurationBounds
  HistogramCounts tokens;                                        // kStepTokensBounds

  StepStatistics();
  void Add(StepPhase phase, std::chrono::duration<double> took, int64_t num_rows);
};

}  // namespace moed
