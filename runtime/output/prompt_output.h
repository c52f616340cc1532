// What a request's deltas say of its prompt.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "runtime/output/generation_sink.h"
#include "runtime/schedule/batch_plan.h"
#include "runtime/schedule/request.h"
#include "runtime/tokenizer/tokenizer.h"

namespace moed {

// Gathers the log probabilities of the prompt, and keeps ids and text for an echo. One thread at a
// time.
class PromptOutput {
 public:
  // `tokenizer` is read only here, and only where the prompt is echoed as text; else it may be
  // null.
  PromptOutput(const GenerationRequest& request, const Tokenizer* tokenizer);

  // The log probabilities of the next tokens of the prompt, in order from the second.
  void AppendLogprobs(std::vector<SampledToken> logprobs);
  // Whether those of the whole prompt are there, where any are wanted.
  bool is_complete() const;

  // The log probabilities are those gathered so far.
  PromptReport MakeReport(int32_t cached_tokens) const;
  // With echo puts the prompt before what the delta has; else changes nothing.
  void Echo(GenerationDelta* delta) const;
  // Nothing more will be asked for: gives the memory back.
  void Release();

  int32_t num_tokens() const { return num_tokens_; }

 private:
  const int32_t num_tokens_;
  const bool echoes_;
  const int32_t num_gathered_logprobs_;  // the most likely ones with each token; -1: none
  const int32_t num_reported_logprobs_;
  const int32_t num_echoed_logprobs_;
  std::string text_;                    // with echo
  std::vector<int32_t> token_ids_;      // with echo
  std::vector<SampledToken> logprobs_;  // of each token but the first
};

}  // namespace moed
