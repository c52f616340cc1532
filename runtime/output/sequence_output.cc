#include "runtime/output/sequence_output.h"

#include "kernels/core/check.h"

namespace moed {

SequenceOutput::SequenceOutput(const GenerationRequest& request, const Tokenizer* tokenizer)
    : wants_text_(request.response.text),
      wants_logprobs_(request.response.num_logprobs >= 0),
      min_tokens_(request.stopping.min_tokens),
      stop_strings_(request.stopping.stop_strings),
      matcher_(request.stopping.stop_strings) {
  if (!NeedsTokenizer(request)) return;
  MOED_CHECK(tokenizer != nullptr, "text is asked for without a tokenizer");
  detokenizer_.emplace(*tokenizer, DetokenizeOptions{}, request.prompt_token_ids);
}

GenerationDelta SequenceOutput::Append(const SampledToken& sample, Last last) {
  MOED_CHECK(!matched_stop_string_, "a token follows a matched stop string");
  ++completion_tokens_;
  GenerationDelta delta;
  delta.token_ids = {sample.token_id};
  if (wants_logprobs_) {
    delta.logprobs.push_back({sample.token_id, sample.logprob, sample.top_logprobs});
  }
  if (detokenizer_) AppendText(sample, last, &delta.text);
  if (!wants_text_) delta.text.clear();
  return delta;
}

void SequenceOutput::AppendText(const SampledToken& sample, Last last, std::string* text) {
  std::string piece;
  if (last != Last::kYesStopToken) detokenizer_->Feed(sample.token_id, &piece);
  if (last != Last::kNo) piece += detokenizer_->Flush();
  const bool may_match = completion_tokens_ > min_tokens_;
  const int match = matcher_.Feed(piece, may_match, text);
  if (match != StopMatcher::kNoMatch) {
    matched_stop_string_ = stop_strings_[match];
  } else if (last != Last::kNo) {
    matcher_.Flush(text);
  }
}

}  // namespace moed
