// What the scheduler tells of the requests in its care.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "runtime/schedule/batch_plan.h"
#include "runtime/schedule/request.h"

namespace moed {

// What a continuation has cost so far.
struct SequenceUsage {
  int32_t cached_tokens = 0;    // of the prompt, taken from the prefix cache at first admission
  int32_t num_preemptions = 0;  // of this continuation; of the prompt, before it split into n: all
  int64_t dropped_pairs = 0;    // by the capacity factor, in all layers; those of the prompt count
                                // for choice 0
};

// What ends a continuation normally: nothing follows it.
struct SequenceFinish {
  FinishReason reason = FinishReason::kStop;
  int32_t matched_token_id = -1;  // the eos or stop token, or -1
};

// A committed token. Tokens of a continuation come in order, without a gap.
struct SequenceToken {
  SequenceId id = 0;
  int32_t choice = 0;  // [0, n)
  SampledToken sample;
  TimePoint scheduled_at;                // when its request got its first place in a step
  TimePoint sampled_at;                  // when the step was committed
  std::optional<SequenceFinish> finish;  // set on the last token
  SequenceUsage usage;
};

// Log probabilities and experts of consecutive tokens. Reports of a continuation come in order,
// without a gap or an overlap, and before the token that was drawn after them. Those of the prompt
// come once, for choice 0.
struct SequenceReport {
  SequenceId id = 0;
  int32_t choice = 0;
  ChunkReport report;
};

// What a step gave, in the order in which it is to be told: reports, then tokens.
struct StepOutput {
  std::vector<SequenceReport> reports;
  std::vector<SequenceToken> tokens;
};

// A continuation that ended normally without a token: its time was over.
struct SequenceTimeout {
  SequenceId id = 0;
  int32_t choice = 0;
  std::optional<TimePoint> scheduled_at;
  TimePoint ended_at;
  SequenceUsage usage;
};

// A request that ended early, with all continuations that had not ended: cancelled, too late, or
// the engine stopped.
struct SequenceEnd {
  SequenceId id = 0;
  absl::Status status;  // not OK
  std::optional<TimePoint> scheduled_at;
  TimePoint ended_at;
};

}  // namespace moed
