// One request's tokens and reports to deltas, for all its continuations.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "runtime/output/generation_sink.h"
#include "runtime/output/prompt_output.h"
#include "runtime/output/sequence_output.h"
#include "runtime/schedule/batch_plan.h"
#include "runtime/schedule/request.h"
#include "runtime/tokenizer/tokenizer.h"

namespace moed {

// Puts into the deltas of each continuation what is about the prompt (in the first of the request;
// with echo in the first of each) and the experts that were reported since the last. Leaves
// GenerationDelta::finish to its user. One thread at a time.
class RequestOutput {
 public:
  // `tokenizer` must outlive this object. It may be null where NeedsTokenizer says false. Takes
  // time linear in the prompt.
  RequestOutput(const GenerationRequest& request, const Tokenizer* tokenizer);

  static bool NeedsTokenizer(const GenerationRequest& request) {
    return SequenceOutput::NeedsTokenizer(request);
  }

  // What a chunk of a continuation gave; handed out with its next delta.
  void Report(int32_t choice, ChunkReport report);
  // The delta of one more token, and the last one of a continuation that ends without a token. See
  // SequenceOutput.
  GenerationDelta Append(int32_t choice, const SampledToken& sample, SequenceOutput::Last last,
                         int32_t cached_tokens);
  GenerationDelta Finish(int32_t choice, int32_t cached_tokens);

  int32_t num_choices() const { return static_cast<int32_t>(choices_.size()); }
  int32_t num_prompt_tokens() const { return prompt_.num_tokens(); }
  const std::optional<std::string>& matched_stop_string(int32_t choice) const {
    return choices_[choice].sequence.matched_stop_string();
  }
  int32_t completion_tokens(int32_t choice) const {
    return choices_[choice].sequence.completion_tokens();
  }

 private:
  struct Choice {
    SequenceOutput sequence;
    std::vector<int16_t> routed_experts;  // reported since the last delta
    bool has_begun = false;
  };

  // What stands beside the continuation's own text, ids and log probabilities.
  void Complete(int32_t choice, int32_t cached_tokens, GenerationDelta* delta);

  const bool wants_routed_experts_;
  PromptOutput prompt_;
  std::vector<Choice> choices_;  // [n]
  int32_t num_begun_ = 0;        // of them
};

}  // namespace moed
