#include "runtime/engine/step_statistics.h"

#include <algorithm>
#include <cstddef>

namespace moed {

const char* StepPhaseName(StepPhase phase) {
  switch (phase) {
    case StepPhase::kDecode:
      return "decode";
    case StepPhase::kPrefill:
      return "prefill";
    case StepPhase::kMixed:
      return "mixed";
  }
  return "";
}

StepPhase PhaseOf(absl::Span<const RankBatch> batches) {
  bool has_decode = false;
  bool has_prefill = false;
  for (const RankBatch& batch : batches) {
    for (const SequenceChunk& chunk : batch.chunks) {
      const bool is_decode = chunk.sample && chunk.tokens.size() == 1;
      (is_decode ? has_decode : has_prefill) = true;
    }
  }
  if (has_decode && has_prefill) return StepPhase::kMixed;
  return has_prefill ? StepPhase::kPrefill : StepPhase::kDecode;
}

void HistogramCounts::Add(absl::Span<const double> bounds, double value) {
  // A value that equals a bound belongs below it, as Prometheus' "le" has it.
  const auto bound = std::lower_bound(bounds.begin(), bounds.end(), value);
  ++buckets[static_cast<size_t>(bound - bounds.begin())];
  sum += value;
  ++count;
}

StepStatistics::StepStatistics() {
  for (HistogramCounts& durations : duration_seconds) {
    durations.buckets.resize(kStepDurationBounds.size() + 1);
  }
  tokens.buckets.resize(kStepTokensBounds.size() + 1);
}

void StepStatistics::Add(StepPhase phase, std::chrono::duration<double> took, int64_t num_rows) {
  duration_seconds[static_cast<size_t>(phase)].Add(kStepDurationBounds, took.count());
  tokens.Add(kStepTokensBounds, static_cast<double>(num_rows));
}

}  // namespace moed
