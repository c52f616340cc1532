#include "runtime/output/request_output.h"

#include <utility>

#include "kernels/core/check.h"

namespace moed {

RequestOutput::RequestOutput(const GenerationRequest& request, const Tokenizer* tokenizer)
    : wants_routed_experts_(request.response.routed_experts), prompt_(request, tokenizer) {
  MOED_CHECK(request.sampling.n >= 1, "a request without a continuation");
  choices_.reserve(request.sampling.n);
  for (int32_t choice = 0; choice < request.sampling.n; ++choice) {
    choices_.push_back({SequenceOutput(request, tokenizer), {}, false});
  }
}

void RequestOutput::Report(int32_t choice, ChunkReport report) {
  MOED_CHECK(choice == 0 || report.prompt_logprobs.empty(), "the prompt belongs to choice 0");
  prompt_.AppendLogprobs(std::move(report.prompt_logprobs));
  if (!wants_routed_experts_) return;
  std::vector<int16_t>& experts = choices_[choice].routed_experts;
  experts.insert(experts.end(), report.routed_experts.begin(), report.routed_experts.end());
}

GenerationDelta RequestOutput::Append(int32_t choice, const SampledToken& sample,
                                      SequenceOutput::Last last, int32_t cached_tokens) {
  MOED_CHECK(choices_[choice].has_begun || prompt_.is_complete(),
             "a token comes before the log probabilities of its prompt");
  GenerationDelta delta = choices_[choice].sequence.Append(sample, last);
  Complete(choice, cached_tokens, &delta);
  return delta;
}

GenerationDelta RequestOutput::Finish(int32_t choice, int32_t cached_tokens) {
  GenerationDelta delta = choices_[choice].sequence.Finish();
  Complete(choice, cached_tokens, &delta);
  return delta;
}

void RequestOutput::Complete(int32_t choice_index, int32_t cached_tokens, GenerationDelta* delta) {
  Choice& choice = choices_[choice_index];
  delta->choice = choice_index;
  delta->routed_experts = std::exchange(choice.routed_experts, {});
  if (choice.has_begun) return;
  choice.has_begun = true;
  if (num_begun_ == 0) delta->prompt = prompt_.MakeReport(cached_tokens);
  prompt_.Echo(delta);
  if (++num_begun_ == num_choices()) prompt_.Release();
}

}  // namespace moed
