// Where a request's output goes: implemented by the front ends.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "runtime/schedule/request.h"

namespace moed {

struct TokenLogprob {
  int32_t token_id = 0;
  float logprob = 0;
  std::vector<std::pair<int32_t, float>> top;  // the most likely, most likely first
};

// Part of a continuation. Deltas of a request arrive in order.
struct GenerationDelta {
  std::string text;                    // valid UTF-8, whole code points; may be empty while text
                                       // is held back, and without ResponseOptions::text
  std::vector<int32_t> token_ids;      // as sampled; a token that ended the sequence is the last
  std::vector<TokenLogprob> logprobs;  // one per token id when asked for
};

struct GenerationFinish {
  absl::Status status;  // not OK: ended early, and the rest does not matter
  FinishReason reason = FinishReason::kStop;
  std::string matched_stop_string;  // empty: none
  int32_t matched_token_id = -1;    // the eos or stop token that ended it, or -1
  int32_t prompt_tokens = 0;
  int32_t completion_tokens = 0;   // tokens handed out, those held in a matched stop string too
  double queue_seconds = 0;        // submit to first scheduled
  double first_token_seconds = 0;  // submit to first token
  double total_seconds = 0;
};

// Called on the output thread only. Must not block: a front end keeps a bounded outbox.
class GenerationSink {
 public:
  virtual ~GenerationSink() = default;

  // False: the reader is gone or too slow; the engine then ends the request, and OnFinish follows
  // with RESOURCE_EXHAUSTED.
  virtual bool OnDelta(GenerationDelta delta) = 0;
  // The last call, exactly once.
  virtual void OnFinish(const GenerationFinish& finish) = 0;
};

}  // namespace moed
