// Where a request's output goes: implemented by the front ends.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "runtime/schedule/request.h"
#include "runtime/schedule/sequence_events.h"

namespace moed {

struct TokenLogprob {
  int32_t token_id = 0;
  float logprob = 0;
  std::vector<std::pair<int32_t, float>> top;  // the most likely, most likely first
};

// About the prompt.
struct PromptReport {
  int32_t prompt_tokens = 0;
  int32_t cached_tokens = 0;           // of them, those taken from the prefix cache
  std::vector<TokenLogprob> logprobs;  // where asked for: of each token but the first; fewer where
                                       // the time was over before the prompt was computed
};

// How one continuation ended normally.
struct ChoiceFinish {
  FinishReason reason = FinishReason::kStop;
  std::string matched_stop_string;  // empty: none
  int32_t matched_token_id = -1;    // the eos or stop token that ended it, or -1
  int32_t prompt_tokens = 0;
  int32_t completion_tokens = 0;   // tokens handed out, those held in a matched stop string too
  double queue_seconds = 0;        // submit to first scheduled
  double first_token_seconds = 0;  // submit to first token; 0 where there was none
  double total_seconds = 0;
  SequenceUsage usage;
};

// Part of a continuation. The deltas of a continuation arrive in order; those of the n
// continuations of a request are mixed.
struct GenerationDelta {
  int32_t choice = 0;                  // [0, n)
  std::optional<PromptReport> prompt;  // in the first delta of the request, and only there
  std::string text;                    // valid UTF-8, whole code points; may be empty while text
                                       // is held back, and without ResponseOptions::text. With
                                       // echo the prompt's comes first
  std::vector<int32_t> token_ids;      // as sampled; a token that ended the sequence is the last.
                                       // With echo the prompt's come first
  std::vector<TokenLogprob> logprobs;  // one per token id when asked for; with echo none for the
                                       // prompt's first token
  // Where asked for: [tokens, num_layers, experts per token] of tokens whose row was computed, in
  // the order of their positions: the prompt's (choice 0 only), then generated ones but the last.
  std::vector<int16_t> routed_experts;
  std::optional<ChoiceFinish> finish;  // in the continuation's last delta, and only there
};

// How a request ended.
struct GenerationFinish {
  absl::Status status;  // OK: every continuation has finished; else it ended early, and what was
                        // sent of it does not matter
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
