// One request's tokens to deltas.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "runtime/output/generation_sink.h"
#include "runtime/output/stop_matcher.h"
#include "runtime/schedule/batch_plan.h"
#include "runtime/schedule/request.h"
#include "runtime/tokenizer/incremental_detokenizer.h"
#include "runtime/tokenizer/tokenizer.h"

namespace moed {

// Detokenises, looks for stop strings and makes deltas. Text comes in whole code points. A request
// without text and stop strings has no detokeniser. One thread at a time.
class SequenceOutput {
 public:
  // `tokenizer` must outlive this object. It may be null where NeedsTokenizer says false.
  SequenceOutput(const GenerationRequest& request, const Tokenizer* tokenizer);

  static bool NeedsTokenizer(const GenerationRequest& request) {
    return request.response.text || !request.stopping.stop_strings.empty();
  }

  // How the token is the last one.
  enum class Last : uint8_t {
    kNo,
    kYes,          // of its length: text held back is let through
    kYesStopToken  // the same; an eos or stop token itself has no text
  };

  // The delta of one more token. Nothing may follow a last token or a match.
  GenerationDelta Append(const SampledToken& sample, Last last);

  // The stop string that the text matched. The token that completed it was the last; the text ends
  // before it.
  const std::optional<std::string>& matched_stop_string() const { return matched_stop_string_; }
  int32_t completion_tokens() const { return completion_tokens_; }

 private:
  void AppendText(const SampledToken& sample, Last last, std::string* text);

  const bool wants_text_;
  const bool wants_logprobs_;
  const int32_t min_tokens_;
  const std::vector<std::string> stop_strings_;
  std::optional<IncrementalDetokenizer> detokenizer_;
  StopMatcher matcher_;
  std::optional<std::string> matched_stop_string_;
  int32_t completion_tokens_ = 0;
};

}  // namespace moed
