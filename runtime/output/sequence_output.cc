#include "runtime/output/sequence_output.h"

#include <utility>

#include "kernels/core/check.h"

namespace moed {

SequenceOutput::SequenceOutput(const GenerationRequest& request, const Tokenizer* tokenizer)
    : wants_text_(request.response.text),
      wants_logprobs_(request.response.num_logprobs >= 0),
      include_stop_(request.stopping.include_stop),
      min_tokens_(request.stopping.min_tokens),
      stop_strings_(request.stopping.stop_strings),
      matcher_(request.stopping.stop_strings, request.stopping.include_stop) {
  if (!NeedsTokenizer(request)) return;
  MOED_CHECK(tokenizer != nullptr, "text is asked for without a tokenizer");
  detokenizer_.emplace(*tokenizer, DetokenizeOptions{request.response.skip_special_tokens},
                       request.prompt_token_ids);
}

GenerationDelta SequenceOutput::Append(const SampledToken& sample, Last last) {
  MOED_CHECK(!matched_stop_string_, "a token follows a matched stop string");
  ++completion_tokens_;
  GenerationDelta delta;
  delta.token_ids = {sample.token_id};
  if (wants_logprobs_) {
    delta.logprobs.push_back({sample.token_id, sample.logprob, sample.top_logprobs});
  }
  if (!detokenizer_) return delta;
  std::string piece;
  if (last != Last::kYesStopToken || include_stop_) detokenizer_->Feed(sample.token_id, &piece);
  AppendText(std::move(piece), last != Last::kNo, &delta.text);
  return delta;
}

GenerationDelta SequenceOutput::Finish() {
  MOED_CHECK(!matched_stop_string_, "a continuation ends after a matched stop string");
  GenerationDelta delta;
  if (detokenizer_) AppendText(std::string(), /*is_last=*/true, &delta.text);
  return delta;
}

void SequenceOutput::AppendText(std::string piece, bool is_last, std::string* text) {
  if (is_last) piece += detokenizer_->Flush();
  const bool may_match = completion_tokens_ > min_tokens_;
  const int match = matcher_.Feed(piece, may_match, text);
  if (match != StopMatcher::kNoMatch) {
    matched_stop_string_ = stop_strings_[match];
  } else if (is_last) {
    matcher_.Flush(text);
  }
  if (!wants_text_) text->clear();
}

}  // namespace moed
