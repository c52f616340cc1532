// A request on its way through the engine, and what the scheduler tells about it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "runtime/schedule/batch_plan.h"
#include "runtime/schedule/request.h"

namespace moed {

// The scheduler's own state of a request.
struct Sequence {
  SequenceId id = 0;
  GenerationRequest request;
  std::optional<absl::Status> end_status;  // set: to be ended before the next step

  // From admission on.
  TimePoint scheduled_at;
  int rank = -1;  // home rank
  int32_t slot = -1;
  std::vector<int32_t> blocks;  // allocated so far, in the order of the block table
  int64_t num_reserved_blocks = 0;
  int32_t num_computed_tokens = 0;  // prompt and generated tokens whose KV is, or is being, written
  std::vector<int32_t> generated_token_ids;
  bool is_finished = false;

  int32_t num_prompt_tokens() const {
    return static_cast<int32_t>(request.prompt_token_ids.size());
  }
  int32_t num_generated() const { return static_cast<int32_t>(generated_token_ids.size()); }
  bool is_decoding() const { return num_computed_tokens >= num_prompt_tokens(); }
};

// KV slots that a request can come to need: the last token is sampled but never fed back.
inline int64_t MaxKvTokens(const GenerationRequest& request) {
  return static_cast<int64_t>(request.prompt_token_ids.size()) + request.stopping.max_tokens - 1;
}

// What ends a sequence by a token: nothing follows it.
struct SequenceFinish {
  FinishReason reason = FinishReason::kStop;
  int32_t matched_token_id = -1;  // the eos or stop token, or -1
};

// A committed token. Tokens of a sequence come in order, without a gap.
struct SequenceToken {
  SequenceId id = 0;
  SampledToken sample;
  TimePoint scheduled_at;                // when its request got its first place in a step
  TimePoint sampled_at;                  // when the step was committed
  std::optional<SequenceFinish> finish;  // set on the last token
};

// A sequence that ended without a token: cancelled, too late, or the engine stopped.
struct SequenceEnd {
  SequenceId id = 0;
  absl::Status status;  // not OK
  std::optional<TimePoint> scheduled_at;
  TimePoint ended_at;
};

}  // namespace moed
